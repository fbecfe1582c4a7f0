//! What a reader does: says what will happen, and builds a container.
//!
//! - [`study`]: a lesson, question by question
//! - [`questions`]: what a chapter asks, and which answer the run shows to be right
//! - [`start`]: a package of the reader's own
//! - [`check`]: takes a program through the steps
//! - [`solutions`]: the worked programs
//! - [`text`]: a chapter's Markdown as lines on a terminal

#[cfg(target_os = "linux")]
pub mod check;
#[cfg(target_os = "linux")]
pub mod questions;
#[cfg(target_os = "linux")]
pub mod solutions;
#[cfg(target_os = "linux")]
pub mod start;
#[cfg(target_os = "linux")]
pub mod study;
#[cfg(target_os = "linux")]
pub mod text;
