//! The command has network interfaces of its own, and 127.0.0.1 answers.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::errno::Errno;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

/// For one who talks to itself.
const A_SECOND: Duration = Duration::from_secs(1);

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    container.must_not_share("net", "CLONE_NEWNET")?;
    let talked = container.probe.visit("net", || talk_to_ourselves().map_err(errno))?;
    let Err(errno) = talked else { return Ok(()) };
    let table = container.probe.file("net/dev")?;
    let names = table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    let miss = Miss::that(
        "A new network namespace has lo, and lo is down: ioctl(2) with SIOCSIFFLAGS and IFF_UP, in \
         the container. It takes CAP_NET_ADMIN there.",
    );
    let miss = miss.inside("its interfaces", names.collect::<Vec<_>>().join(" "));
    let miss = miss.inside("connect(127.0.0.1)", format!("-1 {errno:?}"));
    Err(container.program.with_last_words(miss).into())
}

fn talk_to_ourselves() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    TcpStream::connect_timeout(&listener.local_addr()?, A_SECOND)?;
    Ok(String::new())
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::ETIMEDOUT, Errno::from_raw)
}
