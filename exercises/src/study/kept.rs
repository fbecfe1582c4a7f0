//! What the reader has answered, right or wrong.

/// The answers so far: the id of the question, and if it was right. The last one counts.
#[derive(Default)]
pub struct Kept(Vec<(String, bool)>);

impl Kept {
    /// Was the last answer to this question right? `None`: there is none.
    pub fn was_right(&self, id: &str) -> Option<bool> {
        self.0.iter().rfind(|answer| answer.0 == id).map(|answer| answer.1)
    }

    /// Keeps an answer.
    pub fn record(&mut self, id: String, is_right: bool) {
        self.0.push((id, is_right));
    }
}
