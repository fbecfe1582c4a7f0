//! The book in a real browser.

mod axe;
mod driver;
mod live;
#[path = "../server/mod.rs"]
mod process;
mod server;
mod r#static;
mod terminals;
