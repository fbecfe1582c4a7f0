//! How a container is asked for, and how its end is told.

use std::ffi::{CString, OsString};
use std::fmt::Display;
use std::io::{Write as _, stderr, stdin};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{self, getegid, geteuid, getpgrp, tcgetpgrp, ttyname};
use workbook::cgroups::Group;
use workbook::host::{Named as _, Refusal};
use workbook::lesson::REFUSED;

use crate::bundle::{Container, Mount, Result, device, fault};
use crate::privileges;

/// The arguments with which container-demo is no lesson but a runtime.
pub fn arguments(lesson: Command) -> Command {
    let folder = |name, help| {
        let folder = Arg::new(name).long(name).value_name("DIR").help(help);
        folder.value_parser(value_parser!(PathBuf))
    };
    let flag = |name, help| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
    let command = Arg::new("command").value_name("COMMAND").help("What to run in it");
    let command = command.value_parser(value_parser!(OsString)).num_args(1..);
    lesson
        .arg(folder("bundle", "Be a runtime: run the OCI bundle in DIR"))
        .arg(folder("rootfs", "Be a runtime: run COMMAND with DIR as /").requires("command"))
        .group(ArgGroup::new("runtime").args(["bundle", "rootfs"]))
        .arg(flag("system", "COMMAND is PID 1 itself, as an init has to be").requires("runtime"))
        .arg(flag("look-around", "Do what the lesson's command does").hide(true))
        .arg(command.trailing_var_arg(true).requires("runtime"))
}

/// The container that the arguments ask for, if they ask for one.
pub fn asked_for(arguments: &ArgMatches) -> Option<Result<Container>> {
    let folder = |name| arguments.get_one::<PathBuf>(name);
    let container = match (folder("bundle"), folder("rootfs")) {
        (Some(bundle), _) => Container::read(bundle),
        (None, Some(root)) => Container::around(root),
        (None, None) => return None,
    };
    Some(container.and_then(|container| finished(container, arguments)))
}

/// With what no config.json says: the terminal, the user, and the command if it is another.
fn finished(mut container: Container, arguments: &ArgMatches) -> Result<Container> {
    let foreground = tcgetpgrp(stdin()) == Ok(getpgrp());
    if container.terminal && !foreground {
        return fault("process.terminal", "standard input is no terminal that is ours");
    }
    if arguments.contains_id("rootfs") {
        container.terminal = foreground;
    }
    if let Some(terminal) = ttyname(stdin()).ok().filter(|_| container.terminal) {
        // It has no name in the container's own /dev/pts.
        let source = terminal.to_string_lossy().into_owned();
        container.mounts.push(Mount { source, ..device("console") });
    }
    // Where /proc does not say it, clone(2) will.
    if container.uid_map.is_empty() && !privileges::in_force("CAP_SYS_ADMIN") {
        container.namespaces |= libc::CLONE_NEWUSER;
        container.uid_map = format!("0 {} 1\n", geteuid());
        container.gid_map = format!("0 {} 1\n", getegid());
        let note = "linux.namespaces: and a user namespace, for we are an ordinary user";
        container.notes.extend(arguments.contains_id("bundle").then(|| note.to_string()));
    }
    if let Some(words) = arguments.get_many::<OsString>("command") {
        // execve(2) has handed them over, so no zero byte is in one.
        let words = words.map(|word| CString::new(word.as_bytes()).unwrap_or_default());
        container.args = words.collect();
    }
    container.system = arguments.get_flag("system");
    Ok(container)
}

/// Its cgroup, if it has limits and we can make one: limits-demo. Else it has none, and that is
/// said.
pub fn group(name: &'static str, container: &Container) -> Option<Group> {
    let limits = &container.limits;
    let group = if limits.is_empty() { None } else { Some(Group::with(name, limits)) };
    let said = |refusal| {
        let files: Vec<_> = limits.iter().map(|(file, _)| *file).collect();
        say(name, format!("linux.resources: no {}, for {refusal}", files.join(", ")));
    };
    group?.map_err(said).ok()
}

/// Runs it, and says on standard error only what no command can say. The exit code is the
/// command's; 127 or 126, as a shell's, for one that is not there or cannot be run; 69 if there was
/// no container.
pub fn tell(
    name: &str,
    container: Result<Container>,
    run: fn(&Container) -> std::result::Result<u8, Refusal>,
) -> ExitCode {
    let ran = container.map(|container| {
        container.notes.iter().for_each(|note| say(name, note));
        run(&container)
    });
    ExitCode::from(match ran {
        Ok(Ok(status)) => status,
        Ok(Err(refusal)) if refusal.call().starts_with("execve(") => {
            say(name, &refusal);
            if refusal.errno() == Some(Errno::ENOENT) { 127 } else { 126 }
        }
        Ok(Err(refusal)) => {
            refusal.tell(name);
            REFUSED
        }
        Err(fault) => {
            say(name, fault);
            REFUSED
        }
    })
}

/// What we inherited beside the three streams is closed, and signals do what they do to a new
/// program.
pub fn forget_the_caller() -> std::result::Result<(), Refusal> {
    // SAFETY: no value here owns one of them.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    for heeded in [Signal::SIGPIPE, Signal::SIGCHLD] {
        // SAFETY: installs no handler.
        unsafe { signal(heeded, SigHandler::SigDfl) }.named("rt_sigaction(2)")?;
    }
    Ok(())
}

/// Becomes the command: execve(2). If its name has no `/`, it is looked for in the folders of its
/// PATH, which need not be ours.
pub fn execve(container: &Container) -> std::result::Result<(), Refusal> {
    let Container { args, env, .. } = container;
    let name = args.first().map(|name| name.as_bytes()).unwrap_or_default();
    let path = env.iter().find_map(|one| one.as_bytes().strip_prefix(b"PATH="));
    let folders = path.unwrap_or(b"/usr/bin:/bin").split(|byte| *byte == b':');
    let files: Vec<_> = match name.contains(&b'/') {
        true => vec![name.to_vec()],
        false => folders.map(|folder| [folder, b"/", name].concat()).collect(),
    };
    let mut errno = Errno::ENOENT;
    for file in files {
        let file = CString::new(file).unwrap_or_default(); // it was a string of C before
        match unistd::execve(&file, args, env) {
            Ok(never) => match never {},
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(other) => errno = other, // in the next folder it may be another
        }
    }
    Err(errno).named(format!("execve({:?})", String::from_utf8_lossy(name)))
}

fn say(name: &str, what: impl Display) {
    let _ = writeln!(stderr(), "{name}: {what}"); // where that cannot be written nobody listens
}
