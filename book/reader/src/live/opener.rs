//! Shows the book in the reader's browser.
//!
//! Everybody may read the arguments of every process: proc_pid_cmdline(5). So the address with the
//! token is in a file that only its owner can read, and the browser is given the file.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

/// Opens it by xdg-open(1). The file is removed when what this gives is dropped.
pub fn open(address: &str) -> Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("book-").suffix(".html").tempfile()?;
    writeln!(file, "<!DOCTYPE html>\n<meta http-equiv=\"refresh\" content=\"0; url={address}\">")?;
    let mut opener = Command::new("xdg-open");
    opener.arg(file.path()).stdin(Stdio::null());
    let opener = opener.spawn().context("--open: xdg-open(1), of the package xdg-utils")?;
    drop(opener); // it ends by itself, and a zombie of it is gone when we are
    Ok(file)
}
