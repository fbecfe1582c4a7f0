//! The book in a real browser.

mod axe;
mod driver;
mod r#static;
