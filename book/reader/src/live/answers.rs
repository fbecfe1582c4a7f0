//! What a reader says to a question, in the page. It is kept as `study` keeps it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use book_reader::questions;
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;
use workbook::progress::{Deed, Place};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The chapter and the number of the question there, such as `pid-demo/1`.
    question: String,
    /// From 1.
    option: usize,
}

/// Says whether it is right, as the page does, and notes it.
pub async fn answer(Json(answer): Json<Answer>) -> Response {
    // Files are read and locked.
    let noted = spawn_blocking(move || {
        let right = questions::right(&answer.question)?;
        let is_right = answer.option == right + 1;
        let deed = if is_right { Deed::Right } else { Deed::Wrong };
        let noted = Place::of_user().try_to_note(&[(deed, &answer.question)]);
        Some(noted.map(|()| is_right).map_err(|refusal| refusal.to_string()))
    });
    match noted.await {
        Ok(Some(Ok(is_right))) => Json(json!({ "right": is_right })).into_response(),
        Ok(Some(Err(why))) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(), // it panicked
    }
}
