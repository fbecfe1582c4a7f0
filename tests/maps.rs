//! What `workbook map` draws of a lesson is what the book shows: its accepted map, in words and as
//! a picture. And what it draws of other processes, and when it draws nothing.
//!
//! To accept a new map: `INSTA_UPDATE=always cargo test --test maps`, then read the difference that
//! git shows.

mod accepted;
mod census;
mod host;
mod lessons;
mod normal;

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use accepted::assert_accepted;
use census::Census;
use host::{Host, User};
use nix::unistd::geteuid;
use workbook::{contents, proc};

/// A map of a lesson, with example values.
fn drawn(lesson: &str, option: &[&str], user: User) -> String {
    lessons::program(lesson); // builds container-demo, which is another package's
    let mut command = lessons::command("workbook");
    command.args(["map", lesson]).args(option);
    let output = host::run_as(&mut command, user).output().expect("the workbook starts");
    let [printed, map] = [output.stderr, output.stdout].map(String::from_utf8);
    let printed = printed.expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{lesson} {option:?} as {user:?}: {printed}");
    normal::map(&printed, &map.expect("UTF-8"))
}

/// Whose run the book shows.
fn shown(lesson: &str) -> User {
    if lessons::needs_root(lesson) { User::Root } else { User::Ordinary }
}

/// The lessons that can run here and that make namespaces.
fn with_a_map() -> Vec<String> {
    let lessons = lessons::here().into_iter();
    lessons.filter(|lesson| lessons::has_a_map(lesson)).collect()
}

#[test]
fn every_lesson_that_makes_namespaces_has_its_accepted_map() {
    let _turn = census::turn();
    lessons::each(&with_a_map(), |lesson| {
        let map = drawn(lesson, &[], shown(lesson));
        assert_accepted(&format!("{lesson}@map"), &format!("$ cargo run -- map {lesson}\n{map}"));
        let svg = drawn(lesson, &["--svg"], shown(lesson));
        assert_accepted(&format!("{lesson}@svg"), &svg);
    });
}

/// The book shows the ordinary user's map. Root's has the same processes, and the same namespaces
/// but for the one that an ordinary user needs first.
#[test]
fn root_sees_the_same_without_the_user_namespace() {
    let _turn = census::turn();
    let parts = |map: &str| {
        let lines = map.lines().map(str::trim);
        let kinds = lines.clone().filter_map(|line| Some(line.split_once(" namespace ")?.0));
        let kinds: Vec<_> = kinds.filter(|kind| *kind != "User").map(String::from).collect();
        let processes = lines.filter(|line| line.starts_with("- ")).map(String::from);
        (kinds, processes.collect::<Vec<_>>())
    };
    let mut lessons = with_a_map();
    lessons.retain(|lesson| !lessons::needs_root(lesson));
    lessons::each(&lessons, |lesson| {
        let [root, ordinary] = [User::Root, User::Ordinary].map(|user| drawn(lesson, &[], user));
        assert_eq!(parts(&root), parts(&ordinary), "{lesson}");
    });
}

#[test]
fn a_lesson_without_a_map_is_in_no_namespace_but_an_ordinary_users_own() {
    let _turn = census::turn();
    for lesson in lessons::here().iter().filter(|lesson| !lessons::has_a_map(lesson)) {
        let map = drawn(lesson, &[], shown(lesson));
        let mut lines = map.lines().map(str::trim_start);
        let is_of_ours = |line: &str| {
            // An ordinary user's lesson may need a user namespace first.
            let may_be_its =
                lessons::makes_namespaces(lesson) && line.starts_with("User namespace ");
            !line.contains(" namespace ") || may_be_its
        };
        assert!(lines.clone().all(is_of_ours), "{lesson}: {map}");
        assert!(lines.any(|line| line.starts_with(&format!("- {lesson}: PID "))), "{map}");
    }
}

/// Who forces colours has them in the transcript. A picture has no place for them.
#[test]
fn a_picture_has_no_colours() {
    let _turn = census::turn();
    let mut workbook = lessons::command("workbook");
    workbook.args(["map", "uts-demo", "--svg"]).env("CLICOLOR_FORCE", "1");
    let said = text(&workbook.output().expect("the workbook starts").stdout);
    assert!(said.contains("</svg>") && !said.contains('\x1b'), "{said}");
}

/// A process in namespaces of its own, as unshare(1) makes them, with so many children that look
/// alike. They end with its input.
struct Other(Child);

impl Other {
    fn start(user: User, children: usize) -> Self {
        let children = "read line <&3 & ".repeat(children);
        let script = format!("exec 3<&0; {children} echo; read line");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--pid", "--fork", "sh", "-c", &script]);
        Self::run(host::run_as(&mut command, user))
    }

    fn run(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let said = child.stdout.as_mut().expect("a pipe");
        said.read_exact(&mut [0]).expect("sh runs"); // its namespaces are there
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

/// A user whose processes we may see.
fn us() -> User {
    if geteuid().is_root() { User::Root } else { User::Ordinary }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait(); // to be tidy also when a test fails
    }
}

fn map(words: &[&str]) -> Output {
    lessons::command("workbook").arg("map").args(words).output().expect("the workbook starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the workbook prints UTF-8")
}

#[test]
fn a_process_is_drawn_with_those_that_descend_from_it() {
    let _turn = census::turn();
    let other = Other::start(us(), 0);
    let output = map(&[&other.pid()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let [user, pid] = ["User", "PID"].map(|kind| said.find(&format!("{kind} namespace ")));
    assert!(user.is_some() && user < pid, "{said}");
    assert!(said.contains(&format!("- unshare: PID {}\n", other.pid())), "{said}");
    assert!(said.contains(" outside, 1 inside\n"), "{said}");
    assert!(said.contains("\nShared by all: mounts, network, hostname"), "{said}");
    // Among everybody it is, too.
    let everybody = text(&map(&[]).stdout);
    assert!(everybody.contains(&format!("- unshare: PID {}\n", other.pid())), "{everybody}");
}

/// What is put into a container later, as `docker exec` does, descends from none who is in it.
#[test]
fn who_entered_a_pid_namespace_is_drawn_with_those_in_it() {
    let _turn = census::turn();
    let other = Other::start(us(), 0);
    let inside = proc::children(other.pid()).expect("it runs");
    let [first] = inside[..] else { panic!("{inside:?}") };
    let first = first.to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &first, "--user", "--preserve-credentials", "--pid"]);
    let entered = Other::run(command.args(["sh", "-c", "echo; read line"]));
    let said = text(&map(&[&first]).stdout);
    assert_eq!(said.matches("- sh: PID ").count(), 2, "{said}");
    assert!(!said.contains("- nsenter: "), "{said}");
    drop(entered);
    let said = text(&map(&[&first]).stdout);
    assert_eq!(said.matches("- sh: PID ").count(), 1, "{said}");
}

/// A container of many workers is not a page of boxes that say the same.
#[test]
fn of_many_alike_three_are_drawn_and_the_others_counted() {
    let _turn = census::turn();
    for (children, drawn, counted) in [(4, 4, None), (5, 3, Some("sh, 2 more like these"))] {
        let other = Other::start(us(), children);
        let words = text(&map(&[&other.pid()]).stdout);
        assert_eq!(words.matches("- sh: PID ").count(), 1 + drawn, "{words}");
        let newest = format!(" outside, {} inside\n", 1 + children);
        assert!(words.contains(&newest), "{words}");
        let picture = text(&map(&[&other.pid(), "--svg"]).stdout);
        assert_eq!(picture.matches(">sh</tspan>").count(), 1 + drawn, "{picture}");
        for (said, end) in [(&words, ": the newest is PID "), (&picture, "</tspan>")] {
            let is_counted = said.contains(" more like these");
            assert_eq!(is_counted, counted.is_some(), "{said}");
            let counted = counted.map(|counted| format!("{counted}{end}"));
            assert!(counted.is_none_or(|counted| said.contains(&counted)), "{said}");
        }
    }
}

#[test]
fn who_is_gone_is_not_drawn() {
    let _turn = census::turn();
    let gone = {
        let mut child = Command::new("true").spawn().expect("true starts");
        child.wait().expect("it ends");
        child.id().to_string()
    };
    let output = map(&[&gone]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stderr), format!("workbook: map: PID {gone}: no such process\n"));
    assert!(output.stdout.is_empty(), "{output:?}");
    // Docker and Podman have this for a container that does not run.
    let said = text(&map(&["0"]).stderr);
    assert!(said.starts_with("workbook: map: PID 0: no such process: "), "{said}");
}

#[test]
fn wrong_usage_exits_2() {
    for wrong in [&["pid-dmo"][..], &["1", "pid-demo"], &["pid-demo", "uts-demo"], &["-1"]] {
        let output = map(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{wrong:?}: {output:?}");
    }
}

/// A host that refuses the lesson refuses its map, for the same reason.
#[test]
fn a_refused_lesson_is_not_drawn() {
    let _turn = census::turn();
    let mut command = lessons::command("workbook");
    command.args(["map", "pid-demo"]);
    let output = host::run_on(&mut command, Host::NoUserNamespaces).output().expect("it starts");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("call    unshare(CLONE_NEWUSER) = -1 ENOSPC"), "{said}");
}

/// Killed while its lesson waits, it leaves none of the lesson's processes.
#[test]
fn a_killed_map_takes_its_lesson_along() {
    let _turn = census::turn();
    let before = Census::take(contents::root());
    for nth in 0..20 {
        let mut command = lessons::command("workbook");
        command.args(["map", "visible-demo"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut map = host::run_as(&mut command, User::Ordinary).spawn().expect("it starts");
        thread::sleep(Duration::from_millis(10 * nth)); // a moment to be killed at
        map.kill().expect("our own child");
        map.wait().expect("it ends");
        before.assert_same_within(Duration::from_secs(10), "a killed map");
    }
}
