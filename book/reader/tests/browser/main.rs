//! The book in a real browser.

mod axe;
mod driver;
mod live;
mod server;
mod r#static;
mod terminals;
