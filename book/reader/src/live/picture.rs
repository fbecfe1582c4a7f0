//! The picture of a lesson's key moment, drawn from a run on this host.

use std::process::Stdio;
use std::time::Duration;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;
use workbook::contents;

use super::list;

/// One is drawn at a time.
static TURN: Mutex<()> = Mutex::const_new(());
/// It may have to be built first.
const TIME: Duration = Duration::from_secs(60);

/// What `workbook map LESSON --svg` prints.
pub async fn picture(Path(lesson): Path<String>) -> Response {
    let is_known = contents::lessons().is_ok_and(|all| all.iter().any(|one| one.name == lesson));
    if !is_known {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["run", "--quiet", "--", "map", &lesson, "--svg"])
        .current_dir(contents::root())
        .env_clear()
        .envs(list::environment())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let drawn = async {
        let _turn = TURN.lock().await;
        cargo.output().await
    };
    match timeout(TIME, drawn).await {
        Ok(Ok(output)) if output.status.success() => {
            ([(header::CONTENT_TYPE, "image/svg+xml")], output.stdout).into_response()
        }
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
