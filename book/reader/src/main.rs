//! `cargo book`: builds the book and serves it on this machine, with terminals in which its lessons
//! run; or writes it as plain HTML.

mod keeper;
mod live;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use nix::unistd::geteuid;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use workbook::host::errno;

use live::door::Door;
use live::pages::Pages;
use live::sessions::Sessions;
use live::{connections, opener};

fn main() -> ExitCode {
    let arguments = usage().get_matches();
    let done = match arguments.subcommand() {
        Some(("build", arguments)) => write_pages(arguments),
        Some(("serve", arguments)) => serve_pages(arguments),
        Some(("keep", arguments)) => {
            let words: Vec<OsString> =
                arguments.get_many("command").into_iter().flatten().cloned().collect();
            keeper::keep(&words)
        }
        _ => serve_pages(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("book: {error:#}");
        ExitCode::FAILURE
    })
}

fn usage() -> Command {
    let dest = Arg::new("dest").long("dest").value_name("DIR");
    let command = Arg::new("command").num_args(1..).last(true);
    Command::new("book")
        .bin_name("cargo book")
        .about("Build the book, and serve it on this machine")
        .after_help("Without a command: serve")
        .args_conflicts_with_subcommands(true)
        .args(serving())
        .subcommand(
            Command::new("build").about("Write the book as HTML, to read without a server").arg(
                dest.help("Where to (default: target/book)").value_parser(value_parser!(PathBuf)),
            ),
        )
        .subcommand(
            Command::new("serve")
                .about("Build the book and serve it on 127.0.0.1, with terminals in the page")
                .args(serving()),
        )
        // What each terminal runs under.
        .subcommand(
            Command::new("keep").hide(true).arg(command.value_parser(value_parser!(OsString))),
        )
}

fn serving() -> [Arg; 4] {
    let flag = |name, help| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
    let option = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    [
        option("port", "PORT", "Which port (default: a free one)").value_parser(value_parser!(u16)),
        option(
            "idle",
            "SECONDS",
            "End a terminal in which nothing is typed or printed for so long",
        )
        .value_parser(value_parser!(u32).range(1..))
        .default_value("1800"),
        flag("open", "Open it in your browser"),
        flag("allow-root", "Have terminals in the page also as root"),
    ]
}

fn write_pages(arguments: &ArgMatches) -> Result<ExitCode> {
    let destination = arguments.get_one::<PathBuf>("dest");
    let pages = book_reader::build(&book_reader::folder(), destination.map(PathBuf::as_path))?;
    writeln!(io::stdout(), "{}", pages.join("index.html").display())?;
    Ok(ExitCode::SUCCESS)
}

/// One thread runs everything: a terminal dies with the thread that has started it, and that is the
/// one that ends last.
fn serve_pages(arguments: &ArgMatches) -> Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments)).map(|()| ExitCode::SUCCESS)
}

async fn serve(arguments: &ArgMatches) -> Result<()> {
    // Before the book is built: who has to choose another port need not wait.
    let port = arguments.get_one("port").copied().unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.map_err(|error| {
        let errno = errno(error); // of a port below 1024 it may be EACCES
        anyhow!("bind(2) to 127.0.0.1:{port} = -1 {errno:?}: say another --port, or none")
    })?;
    let port = listener.local_addr()?.port();
    let pages = Pages::build(port)?;
    pages.follow()?;
    let idle = arguments.get_one::<u32>("idle").copied().unwrap_or_default();
    let idle = Duration::from_secs(idle.into());
    let sessions = Sessions::new(connections::make_room()?, idle);
    let (door, path) = Door::new(port)?;
    let is_refused = geteuid().is_root() && !arguments.get_flag("allow-root");
    let (live, path) = match is_refused {
        true => (Err(NOT_AS_ROOT), "/".to_string()),
        false => (Ok((door, sessions.clone())), path),
    };
    let app = live::app(port, pages, live);
    // Before anybody is told that Ctrl-C ends it: until then that is a death by SIGINT.
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let asked = futures_util::future::select_all(ends.iter_mut().map(|end| Box::pin(end.recv())));
    let address = format!("http://127.0.0.1:{port}{path}");
    let mut text = format!("The book is at {address} (Ctrl-C ends it)\n");
    if is_refused {
        text += NOT_AS_ROOT;
        text.push('\n');
    }
    io::stdout().write_all(text.as_bytes())?;
    let opened = arguments.get_flag("open").then(|| opener::open(&address)).transpose()?;
    tokio::select! {
        () = connections::serve(listener, app) => {}
        _ = asked => {}
    }
    drop(opened);
    sessions.end_all().await;
    Ok(())
}

/// What is said where there are no terminals.
const NOT_AS_ROOT: &str = "The pages have no terminals: you are root, and whoever got at one would be \
                           root here. As another user they do, or with --allow-root.";
