//! Which directory is somebody's `/`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::host::{Named as _, Refusal};

/// The file system and the number in it: what a path leads to, whatever the path is.
pub fn identity(file: impl AsRef<Path>) -> Result<(u64, u64), Refusal> {
    let file = file.as_ref();
    let file_is = fs::metadata(file).named(format!("stat({file:?})"))?;
    Ok((file_is.dev(), file_is.ino()))
}
