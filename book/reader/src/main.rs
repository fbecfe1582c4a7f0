//! `cargo book`: builds the book and serves it on this machine, or writes it as plain HTML.

use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, serve};
use clap::{Arg, ArgMatches, Command, value_parser};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tower_http::services::{ServeDir, ServeFile};

const PORT: u16 = 3000;

fn main() -> ExitCode {
    let done = match usage().get_matches().subcommand() {
        Some(("build", arguments)) => write_pages(arguments),
        Some(("serve", arguments)) => serve_pages(arguments.get_one("port").copied()),
        _ => serve_pages(None),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("book: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> Command {
    Command::new("book")
        .bin_name("cargo book")
        .about("Build the book, and serve it on this machine")
        .after_help("Without a command: serve")
        .subcommand(
            Command::new("build").about("Write the book as HTML, to read without a server").arg(
                Arg::new("dest")
                    .long("dest")
                    .value_name("DIR")
                    .help("Where to (default: target/book)")
                    .value_parser(value_parser!(PathBuf)),
            ),
        )
        .subcommand(
            Command::new("serve").about("Build the book and serve it on 127.0.0.1").arg(
                Arg::new("port")
                    .long("port")
                    .value_name("PORT")
                    .help("Which port (default: 3000, or a free one)")
                    .value_parser(value_parser!(u16)),
            ),
        )
}

fn write_pages(arguments: &ArgMatches) -> Result<()> {
    let destination = arguments.get_one::<PathBuf>("dest");
    let pages = book_reader::build(book_reader::folder(), destination.map(PathBuf::as_path))?;
    writeln!(io::stdout(), "{}", pages.join("index.html").display())?;
    Ok(())
}

fn serve_pages(port: Option<u16>) -> Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Before the book is built: who has to choose another port need not wait.
        let listener = listen(port).await?;
        let address = listener.local_addr()?;
        let pages = book_reader::build(book_reader::folder(), None)?;
        // Before anybody is told that Ctrl-C ends it: until then that is a death by SIGINT.
        let mut asked = signal(SignalKind::interrupt())?;
        writeln!(io::stdout(), "The book is at http://{address}/ (Ctrl-C ends it)")?;
        let server = serve(listener, app(&pages, address.port())).into_future();
        tokio::select! {
            served = server => served.context("serving"),
            _ = asked.recv() => Ok(()),
        }
    })
}

/// Loopback only: the book is for who sits at this machine.
async fn listen(port: Option<u16>) -> Result<TcpListener> {
    let bind = async |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    match (port, bind(port.unwrap_or(PORT)).await) {
        (_, Ok(listener)) => Ok(listener),
        (None, Err(_)) => bind(0).await.context("127.0.0.1: no free port"),
        (Some(port), Err(error)) => Err(error).context(format!("127.0.0.1:{port}")),
    }
}

fn app(pages: &Path, port: u16) -> Router {
    let missing = ServeFile::new(pages.join("404.html"));
    let files = ServeDir::new(pages).not_found_service(missing);
    let here = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    Router::new()
        .fallback_service(files)
        .layer(middleware::from_fn_with_state(here, only_as_this_host))
}

/// A page from elsewhere can make its own name resolve to 127.0.0.1 and then ask this server, but
/// the browser still sends that name.
async fn only_as_this_host(
    State(here): State<[String; 2]>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| here.iter().any(|name| name == host)) {
        next.run(request).await
    } else {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    }
}
