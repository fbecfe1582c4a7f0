//! Every lesson on kernels old and new: Debian's, booted under qemu without KVM, as root and as an
//! ordinary user, and on hosts that only a machine of one's own can play. `KERNELS` names the
//! folder that `.ci/kernels` fills. What came of it is a snapshot for each kernel, and the table of
//! all. And the steps of "Your turn", where cgroups are v2's alone.

mod accepted;
mod lessons;
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;

use nix::unistd::geteuid;
use workbook::contents;

/// Those who run the lessons, as the table calls them.
const USERS: [&str; 2] = ["root", "user"];
/// Those whose program is taken through the steps: `given` is a user with a cgroup of its own.
const STEPPERS: [&str; 3] = ["root", "user", "given"];
/// The host on which nothing is forbidden.
const PLAIN: &str = "plain";

#[test]
fn every_lesson_holds_or_says_why_not_on_every_kernel() {
    match env::var_os("KERNELS").map(PathBuf::from) {
        Some(folder) => try_kernels(&folder),
        // An ordinary user boots the same guests.
        None if env::var_os("CI").is_none() || !geteuid().is_root() => {
            eprintln!("not tried here: other kernels than this host's: see .ci/kernels");
        }
        None => panic!("KERNELS names no folder: see .ci/kernels"),
    }
    // Those that are not here are in it as they were accepted.
    accepted::assert_accepted("tests@kernels", &table(&accepted_kernels()));
}

fn try_kernels(folder: &PathBuf) {
    let apparmor = &folder.join("apparmor");
    let entries = fs::read_dir(folder).expect("KERNELS is a folder").flatten();
    let kernels = entries.map(|entry| entry.path()).filter(|path| path != apparmor);
    let files = &machine::files(apparmor);
    let guests: Vec<_> = thread::scope(|scope| {
        let boot = |kernel: PathBuf| scope.spawn(move || machine::boot(&kernel, files));
        let boots: Vec<_> = kernels.map(boot).collect();
        boots.into_iter().map(|boot| boot.join().expect("the guest runs")).collect()
    });
    assert!(!guests.is_empty(), "no kernel in {folder:?}");
    for said in guests {
        let (kernel, runs) = read_guest(&said);
        if lessons::names() == lessons::all() {
            accepted::assert_accepted(&format!("kernels@{kernel}"), &runs);
        }
    }
}

/// The kernel's version; and a line for each reason why a lesson did less than it could. Of a host
/// that forbids something, only what it adds.
fn read_guest(said: &str) -> (String, String) {
    let kernel = said.split_once("@kernel ").expect("a kernel").1;
    let kernel = kernel.split('.').take(2).collect::<Vec<_>>().join(".");
    let (mut text, mut plain) = (String::new(), BTreeSet::new());
    for host in said.split("\n@host ").skip(1) {
        let (host, said) = host.split_once('\n').expect("a host");
        for (user, said) in USERS.iter().zip(said.split("@user ").skip(1)) {
            for reason in read_lessons(said, &format!("Linux {kernel}, {host}, {user}")) {
                let line = format!("{user} {reason}");
                if !plain.contains(&line) {
                    let _ = writeln!(text, "{host} {line}"); // a String takes everything
                }
                if host == PLAIN {
                    plain.insert(line);
                }
            }
        }
    }
    for (user, said) in STEPPERS.iter().zip(said.split("@steps ").skip(1)) {
        for reason in read_steps(said, &format!("Linux {kernel}, steps, {user}")) {
            let _ = writeln!(text, "{PLAIN} {user} {reason}");
        }
    }
    (kernel, text)
}

/// The steps of one user: all are passed, or say why they cannot be checked there.
fn read_steps(said: &str, place: &str) -> Vec<String> {
    let json = said.lines().nth(1).unwrap_or_default();
    let report: serde_json::Value =
        serde_json::from_str(json).unwrap_or_else(|_| panic!("{place}: {said}"));
    let text = |step: &serde_json::Value, key: &str| step[key].as_str().unwrap_or("-").to_string();
    let steps = report["steps"].as_array().expect(place);
    let names: Vec<_> = steps.iter().map(|step| text(step, "step")).collect();
    assert_eq!(names, all_steps(), "{place}: {json}");
    let reasons = steps.iter().filter(|step| step["outcome"] != "passed").map(|step| {
        assert_eq!(step["outcome"], "not here", "{place}: {step}");
        assert!(!text(step, "cause").contains("not known to this workbook"), "{place}: {step}");
        format!("{} x {} | {}", text(step, "step"), text(step, "call"), text(step, "cause"))
    });
    reasons.collect()
}

/// The names of the steps, as their page has them.
fn all_steps() -> Vec<String> {
    let page = contents::root().join("book/src/your-turn.md");
    let page = fs::read_to_string(page).expect("a page of the book");
    let anchors = page.lines().filter_map(|line| line.strip_prefix("<!-- ANCHOR: "));
    anchors.map(|rest| rest.trim_end_matches(" -->").to_string()).collect()
}

/// All lessons of one user on one host, and what doctor finds there. Gives the reasons, as lines.
fn read_lessons(said: &str, place: &str) -> Vec<String> {
    let parts: Vec<_> = said.split("@lesson ").skip(1).collect();
    let names: Vec<_> = parts.iter().filter_map(|part| part.lines().next()).collect();
    assert_eq!(names, lessons::names(), "{place}");
    let json = said.split_once("@doctor ").and_then(|(_, json)| json.lines().next());
    let doctor: serde_json::Value = serde_json::from_str(json.unwrap_or_default()).expect(place);
    let found = doctor["lessons"].as_array().expect("a list");
    let reasons = parts.into_iter().flat_map(|part| {
        let (lesson, reasons) = read_lesson(part, place);
        let its = found.iter().find(|its| its["lesson"] == *lesson).expect("each lesson");
        assert_doctor_agrees(its, &reasons, place);
        reasons.into_iter().map(move |reason| format!("{lesson} {reason}"))
    });
    reasons.collect()
}

/// A lesson's name, and why it did less than it could: `o` a claim that stays open, `x` the call
/// that was refused, and the cause.
fn read_lesson(said: &str, place: &str) -> (String, Vec<String>) {
    let (lesson, said) = said.split_once('\n').expect("a lesson's name");
    let (said, status) = said.split_once("@status ").expect("a lesson's end");
    let after = |start: &str| {
        let lines = said.lines().filter_map(|line| line.strip_prefix(start));
        lines.map(|rest| rest.trim().to_string()).collect::<Vec<_>>()
    };
    let reasons = match status.lines().next() {
        Some("0") => {
            let claims = after("open ").into_iter().zip(after("       not checked here "));
            let id = |claim: &str| claim.split(' ').next().unwrap_or_default().to_string();
            claims.map(|(claim, want)| format!("o {} stays open {want}", id(&claim))).collect()
        }
        Some("69") => vec![format!("x {} | {}", after("call ").concat(), after("cause ").concat())],
        _ => panic!("{place}: {lesson}: {said}{status}"),
    };
    assert!(!said.contains("not known to this workbook"), "{place}: {lesson}: {said}");
    (lesson.to_string(), reasons)
}

/// What doctor has found by trying is what came of the lesson, for the same cause.
fn assert_doctor_agrees(its: &serde_json::Value, reasons: &[String], place: &str) {
    let verdict = match reasons.first().map(|reason| &reason[..1]) {
        None => "runs",
        Some("o") => "partly",
        _ => "cannot",
    };
    assert_eq!(its["verdict"], verdict, "{place}: {reasons:?}: {its}");
    if let (Some(reason), Some(cause)) = (reasons.first(), its["refusal"]["cause"].as_str()) {
        assert!(reason.ends_with(&format!("| {cause}")), "{place}: {reason}: {its}");
    }
}

/// A column of the table: a kernel by its version, or a host that a kernel plays.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
enum Column {
    Kernel(u32, u32),
    Host(String),
}

/// Reasons, and who had them: the user, the lesson, in which columns.
type Reasons = BTreeMap<String, BTreeMap<(String, String), BTreeSet<Column>>>;

/// What was accepted of each kernel.
fn accepted_kernels() -> Reasons {
    let folder = contents::root().join("tests/snapshots");
    let mut reasons = Reasons::new();
    for entry in fs::read_dir(folder).expect("tests/snapshots is a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix("kernels@").and_then(|name| name.strip_suffix(".snap"));
        let Some((major, minor)) = version.and_then(|version| version.split_once('.')) else {
            continue;
        };
        let number = |text: &str| text.parse().expect("a version is two numbers");
        let kernel = Column::Kernel(number(major), number(minor));
        let text = fs::read_to_string(entry.path()).expect("a readable snapshot");
        for line in text.splitn(3, "---\n").nth(2).unwrap_or_default().lines() {
            let mut words = line.splitn(4, ' ').map(str::to_string);
            let mut word = || words.next().unwrap_or_default();
            let (host, run, reason) = (word(), (word(), word()), word());
            let column = if host == PLAIN { kernel.clone() } else { Column::Host(host) };
            reasons.entry(reason).or_default().entry(run).or_default().insert(column);
        }
    }
    reasons
}

/// For each lesson a row, for each kernel and each host a column a user. Then the reasons.
fn table(reasons: &Reasons) -> String {
    let columns: BTreeSet<_> = reasons.values().flat_map(BTreeMap::values).flatten().collect();
    let is_kernel = |column: &&&Column| matches!(column, Column::Kernel(..));
    let newest: &Column = columns.iter().rfind(is_kernel).expect("kernels come before hosts");
    let mut text = "$ KERNELS=/opt/kernels cargo test --test kernels\n\n".to_string();
    let (kernels, hosts): (Vec<&Column>, Vec<_>) = columns.iter().partition(is_kernel);
    let lessons = lessons_of_the_book();
    let blocks: [(_, &[&str], _); 3] = [
        (&kernels, &USERS, &lessons),
        (&hosts, &USERS, &lessons),
        (&kernels, &STEPPERS, &all_steps()),
    ];
    for (columns, users, rows) in blocks {
        text += &block(reasons, columns, users, rows, newest);
        text.push('\n');
    }
    text += &print_reasons(reasons);
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A row for each lesson or step, with a cell for each column and each user.
fn block(
    reasons: &Reasons,
    columns: &[&Column],
    users: &[&str],
    rows: &[String],
    newest: &Column,
) -> String {
    let users_line: String = users.iter().map(|user| format!(" {user:<4}")).collect();
    let width = users_line.len() - 1;
    let heads = columns.iter().map(|column| format!("   {:^width$}", column.to_string()));
    let mut text = format!("{:17}{}\n", "", heads.collect::<String>());
    text += &format!("{:17}{}\n", "", format!("  {users_line}").repeat(columns.len()));
    for row in rows {
        let cells = columns.iter().map(|column| {
            // A host is played by a kernel, which may lack something itself.
            let marks = users.iter().map(|user| {
                let mark = |column| mark(reasons, user, row, column);
                format!(" {:^4}", mark(column).or_else(|| mark(newest)).unwrap_or('.'))
            });
            format!("  {:<1$}", marks.collect::<String>(), users_line.len())
        });
        text += &format!("{row:17}{}\n", cells.collect::<String>());
    }
    text
}

fn lessons_of_the_book() -> Vec<String> {
    let lessons = contents::lessons().expect("a readable book");
    lessons.into_iter().map(|lesson| lesson.name).collect()
}

/// `o` something stays open, `x` it was refused. `None`: it did everything.
fn mark(reasons: &Reasons, user: &str, lesson: &str, column: &Column) -> Option<char> {
    let run = (user.to_string(), lesson.to_string());
    let mut its = reasons
        .iter()
        .filter(|(_, runs)| runs.get(&run).is_some_and(|columns| columns.contains(column)));
    its.next().and_then(|(reason, _)| reason.chars().next())
}

/// Each cause once, with the calls, and each claim that stays open, with its lesson. In which
/// columns, if not on every kernel.
fn print_reasons(reasons: &Reasons) -> String {
    let mut groups = BTreeMap::<String, BTreeMap<String, BTreeSet<&Column>>>::new();
    for (reason, runs) in reasons {
        for ((_, lesson), columns) in runs {
            let (group, what) =
                match reason.strip_prefix("x ").and_then(|why| why.split_once(" | ")) {
                    Some((call, cause)) => (format!("x  {cause}"), any_flags(call)),
                    None => (reason.replacen(' ', "  ", 1), lesson.clone()),
                };
            groups.entry(group).or_default().entry(what).or_default().extend(columns);
        }
    }
    let columns = reasons.values().flat_map(BTreeMap::values).flatten();
    let kernels = columns.filter(|column| matches!(column, Column::Kernel(..))).collect();
    let mut text = String::new();
    for (group, whats) in groups {
        let _ = writeln!(text, "{group}");
        for (what, columns) in whats {
            let names: Vec<_> = columns.iter().map(|column| column.to_string()).collect();
            let names = if columns == kernels { String::new() } else { names.join(", ") + ": " };
            let _ = writeln!(text, "   {names}{what}");
        }
    }
    text
}

/// A call and its errno: which namespaces a lesson asks for is its own affair.
fn any_flags(call: &str) -> String {
    let call = call.split(" (").next().unwrap_or_default(); // without strerror(3)
    let parts =
        call.split_once("(CLONE_NEW").and_then(|(name, rest)| Some((name, rest.split_once(')')?)));
    match parts {
        Some((name, (_, result))) => format!("{name}(CLONE_NEW...){result}"),
        None => call.to_string(),
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Kernel(major, minor) => write!(f, "{major}.{minor}"),
            Self::Host(name) => f.write_str(name),
        }
    }
}
