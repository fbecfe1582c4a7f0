//! The connections: how many, and how long each may take for what it has to say.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How long a request's head or its body may take, and an answer that is no stream.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection lives that has not become a WebSocket, but for an answer under way, which
/// has PATIENCE more: who reads slowly is cut off. A browser makes another.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// How many there may be at once. The next ones wait until the kernel's queue is full.
const MOST: rlim_t = 2048;
/// What a connection reads at once, in bytes: the longest head of a request.
const HEAD: usize = 16 * 1024;

/// Lets this process have a file for each connection and for each terminal, as far as it may. Gives
/// the limit that it had before: soft and hard.
pub fn make_room() -> nix::Result<(rlim_t, rlim_t)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(2 * MOST)), hard)?;
    Ok((soft, hard))
}

/// Answers whoever connects.
pub async fn serve(listener: TcpListener, app: Router) {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST, |(soft, _)| soft);
    let places = Arc::new(Semaphore::new(MOST.min(files / 2) as usize));
    loop {
        let place = places.clone().acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            // No file is free, or who has called is gone. The queue waits.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let app = app.clone();
        tokio::spawn(async move {
            talk(stream, app).await;
            drop(place);
        });
    }
}

/// What ends a connection is of no interest here.
async fn talk(stream: TcpStream, app: Router) {
    let _ = stream.set_nodelay(true); // a key's echo is a small packet
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD);
    let service = TowerToHyperService::new(app);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        // What has been asked for is still answered, to those who read.
        connection.as_mut().graceful_shutdown();
        let _ = timeout(PATIENCE, connection).await;
    }
}
