//! The one renderer of what varies between two runs: host PIDs, inodes, the user who runs it, the
//! host's name, the name of its init, the numbers of its processes, mounts and peer groups. Each by
//! its label, in order of first sight: equal stays equal, different stays different, and what a
//! lesson teaches (PID 1, ESRCH, the name `container`) stays as it is.

#![allow(dead_code)] // each test file uses its own part

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;

use nix::unistd::gethostname;

/// The example values that stand for the real ones. The book shows them.
const FIRST_PID: usize = 48212;
/// A lesson's own, where a map shows it and the transcript does not.
const LESSON_PID: usize = 48211;
/// And where no lesson has a say, in LXC's containers: in the outer PID namespace, and in the inner
/// one, where the numbers are lower, for who is born there takes one of the outer, too.
const FIRST_PIDS_INSIDE: [usize; 2] = [30, 7];
/// The inodes of the first namespaces of a kernel: PROC_*_INIT_INO in linux/proc_ns.h.
const HOST_INODES: [(&str, usize); 8] = [
    ("mnt", 4026531832),
    ("net", 4026531833),
    ("time", 4026531834),
    ("cgroup", 4026531835),
    ("pid", 4026531836),
    ("user", 4026531837),
    ("uts", 4026531838),
    ("ipc", 4026531839),
];
const FIRST_NEW_INODE: usize = 4026532201;
const FIRST_WORD: usize = 530117725;
const HOST_NAME: &str = "laptop";
/// The reader, and somebody else.
const UID: &str = "1000";
const OTHER_UID: &str = "1001";
const HOST_INIT: &str = "systemd";
const HOST_PROCESSES: &str = "93";
const HOST_MOUNTS: usize = 24;
const FIRST_PEER_GROUP: usize = 1;
/// Kernels and their boots: the host's, then the guest's.
const RELEASES: [&str; 2] = ["6.12.48", "6.1.0"];
const BOOTS: [&str; 2] = ["5d1c07e9", "b2f8a634"];
const QEMU_THREADS: &str = "4";
/// A session of systemd, and its init; v2, so hierarchy 0 without a name.
const OUR_CGROUP: &str = "/user.slice/me.scope";
const INIT_CGROUP: &str = "/init.scope";
const HIERARCHY: &str = "cgroup: 0::";
/// Files of a cgroup, as v1 and as v2 names them.
const CGROUP_FILES: [(&str, &str); 3] = [
    ("memory.limit_in_bytes", "memory.max"),
    ("memory.oom_control", "memory.events"),
    ("cpu.cfs_quota_us", "cpu.max"),
];
const MOUNT_CGROUP: &str = "mount(\"none\", \"/mnt\", \"cgroup2\", 0, NULL)";

/// How the call of an observation looks, and how its result is shown: the first row that fits. `*`
/// stands for anything, once. A result like `uts:[4026531838]` needs no row, and whatever else has
/// none stays as it is.
const LABELS: &[(&str, Shown)] = &[
    ("getpid()", Seen::pid),
    ("getppid()", Seen::pid),
    ("fork()", Seen::pid),
    ("fork(), execve(*", Seen::pid),
    ("clone3(set_tid=*", |_, it| it.result.into()), // chosen, not given
    ("clone*", Seen::pid),
    ("*& echo $!", Seen::pid),
    ("*/proc/self\")", Seen::pid),
    ("* NSpid", Seen::pid),
    ("*: Name, NSpid (first, last)", Seen::pid),
    ("NSpid of *: first field", Seen::pid),
    ("getuid()", Seen::uid),
    ("*: st_uid", Seen::uid),
    ("*: Uid", Seen::uid),
    ("gethostname()", |seen, it| seen.word(it.result, &[HOST_NAME])),
    ("cat /proc/1/comm", |seen, it| seen.word(it.result, &[HOST_INIT])),
    // Between two looks at the host's list a process may come or go: only 1 means much.
    ("ls -d /proc/[0-9]* | wc -l", |_, it| one_or(HOST_PROCESSES, it.result)),
    ("ls /proc/self/task | wc -l", |_, it| it.result.into()),
    // qemu starts and ends some as it likes.
    ("*/task | wc -l", |_, it| one_or(QEMU_THREADS, it.result)),
    // Two kernels of one distribution may well be of one release.
    ("cut -d- -f1 /proc/sys/kernel/osrelease", |_, it| {
        RELEASES[usize::from(it.who == "guest")].into()
    }),
    ("cut -d- -f1 /proc/sys/kernel/random/boot_id", |seen, it| seen.word(it.result, &BOOTS)),
    ("*/cgroup: 0::", Seen::cgroup),
    ("*/mountinfo: root of /mnt", Seen::cgroup),
    ("/proc/self/mountinfo: *", Seen::peer_groups),
    ("wc -l < /proc/self/mountinfo", |seen, it| seen.number(HOST_MOUNTS, it.result)),
    // The time at which a process was made.
    ("*/environ", |seen, it| format!("WORD={}", seen.number(FIRST_WORD, it.result))),
    ("stat -Lc %i /proc/*", Seen::bare_inodes),
    // How often depends on when the process ran. Never is another matter.
    ("cpu.stat: nr_throttled", |_, it| if it.result == "0" { "0".into() } else { "1".into() }),
];

type Shown = fn(&mut Seen, &Observation) -> String;

fn fits(label: &str, call: &str) -> bool {
    match label.split_once('*') {
        _ if label == call => true,
        Some((start, end)) => call.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None => false,
    }
}

/// One line: who made the call, the call, what came of it.
struct Observation<'a> {
    who: &'a str,
    call: &'a str,
    result: &'a str,
}

/// What was seen so far, in this order.
#[derive(Default)]
struct Seen {
    /// Under their first example: PIDs, counts of mounts and others that are numbered on from
    /// there.
    numbers: BTreeMap<usize, Vec<String>>,
    /// Words, and the example that stands for each.
    words: Vec<(String, &'static str)>,
    /// Kind, inode, example.
    inodes: Vec<(String, String, usize)>,
    /// Who runs the lesson: what getuid() gave outside.
    uid: Option<String>,
    /// The first PID of a map.
    lesson: Option<String>,
    /// Numbers that are no accidents, however long.
    chosen: BTreeSet<String>,
    our_cgroup: Option<String>,
    init_cgroup: Option<String>,
}

/// A transcript with example values.
pub fn transcript(text: &str) -> String {
    let (mut seen, mut observations) = (Seen::default(), Observations::default());
    let lines = text.lines().map(|line| {
        let is_one = observations.include(line);
        seen.line(line, is_one) + "\n"
    });
    lines.collect()
}

/// A map of a lesson, as text or as SVG, with the example values of what the lesson printed.
pub fn map(printed: &str, map: &str) -> String {
    let (mut seen, mut observations) = (Seen::default(), Observations::default());
    let mut shown = BTreeMap::new(); // each line of the transcript
    for line in printed.lines() {
        let is_one = observations.include(line);
        let example = words(&seen.line(line, is_one));
        // A number that stays in a transcript has been chosen, and stays.
        let of_pids = is_one && example.contains(" NSpid");
        let numbers = example.split(|c: char| !c.is_ascii_digit());
        let numbers = numbers.filter(|number| of_pids || number.len() > 1);
        seen.chosen.extend(numbers.map(String::from));
        shown.insert(escaped(&words(line)), escaped(&example));
        shown.insert(words(line), example);
    }
    // A map names none of the host's namespaces.
    seen.inodes.extend(HOST_INODES.map(|(kind, example)| (kind.into(), String::new(), example)));
    let lines = map.lines().map(|line| match shown.get(line) {
        Some(example) if !line.is_empty() => example.clone() + "\n",
        _ => seen.map_line(line) + "\n",
    });
    lines.collect()
}

/// As in SVG.
fn escaped(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How many observations there are in what was printed so far.
pub fn observations(text: &str) -> usize {
    let mut observations = Observations::default();
    text.lines().filter(|line| observations.include(line)).count()
}

/// The second part of a transcript: the lines between its first two empty ones.
#[derive(Default)]
struct Observations(usize);

impl Observations {
    fn include(&mut self, line: &str) -> bool {
        self.0 += usize::from(line.is_empty());
        self.0 == 1 && !line.is_empty()
    }
}

/// A terminal session with example values, where a line is nothing but such a value.
pub fn session(text: &str) -> String {
    let mut seen = Seen::default();
    let host_name = gethostname().expect("the host has a name");
    seen.word(&host_name.to_string_lossy(), &[HOST_NAME]);
    seen.word(read_to_string("/proc/1/comm").unwrap_or_default().trim_end(), &[HOST_INIT]);
    text.lines().map(|line| seen.known_word(line) + "\n").collect()
}

impl Seen {
    fn line(&mut self, line: &str, is_observation: bool) -> String {
        if let Some(output) = line.strip_prefix("         ") {
            return format!("         {}", self.known_word(output)); // printed by hand
        }
        let (Some((who, _)), Some((call, result))) =
            (line.split_at_checked(9), line.rsplit_once(" = "))
        else {
            return line.to_string();
        };
        if !is_observation {
            return line.to_string();
        }
        let call = &*one_hierarchy(call[who.len()..].trim_end());
        if let Some((call, result)) = self.id_map(call, result) {
            return format!("{who}{call:<47} = {result}");
        }
        let result = self.result(&Observation { who: who.trim_end(), call, result });
        let call = self.pids_in_call(call);
        format!("{who}{call:<47} = {result}")
    }

    fn result(&mut self, seen: &Observation) -> String {
        match LABELS.iter().find(|(label, _)| fits(label, seen.call)) {
            Some((_, shown)) => shown(self, seen),
            None => self.inode(seen.result),
        }
    }

    fn pid(&mut self, seen: &Observation) -> String {
        self.pids(seen.result)
    }

    /// A number of a kind that is numbered from this example on, by first sight.
    fn number(&mut self, first: usize, value: &str) -> String {
        let seen = self.numbers.entry(first).or_default();
        let nth = seen.iter().position(|other| other == value).unwrap_or_else(|| {
            seen.push(value.to_string());
            seen.len() - 1
        });
        (first + nth).to_string()
    }

    /// A word of a kind that has these examples, by first sight. What comes later stays as it is.
    fn word(&mut self, word: &str, examples: &[&'static str]) -> String {
        let of_this_kind = self.words.iter().filter(|(_, example)| examples.contains(example));
        let seen: Vec<_> = of_this_kind.collect();
        if let Some((_, example)) = seen.iter().find(|(known, _)| known == word) {
            return example.to_string();
        }
        let Some(example) = examples.get(seen.len()) else { return word.to_string() };
        self.words.push((word.to_string(), example));
        example.to_string()
    }

    fn known_word(&self, word: &str) -> String {
        let known = self.words.iter().find(|(known, _)| known == word);
        known.map_or(word, |(_, example)| example).to_string()
    }

    /// A line of a map: namespaces, or a process's PIDs, or its uids.
    fn map_line(&mut self, line: &str) -> String {
        let mut out = String::new();
        for part in line.split_inclusive(']') {
            let inode = part.find(":[").and_then(|at| {
                let kind = part[..at].rfind(|c: char| !c.is_ascii_lowercase()).map_or(0, |n| n + 1);
                part.ends_with(']').then(|| part[..kind].to_string() + &self.inode(&part[kind..]))
            });
            out += inode.as_deref().unwrap_or(part);
        }
        for (mark, is_pid) in [("PID ", true), ("uid ", false)] {
            let at = out.find(mark).map(|at| at + mark.len());
            let is_number = |at: &usize| out[*at..].starts_with(|c: char| c.is_ascii_digit());
            if let Some(at) = at.filter(is_number) {
                let (start, rest) = out.split_at(at);
                let shown = if is_pid { self.map_pids(rest) } else { self.map_uids(rest) };
                out = start.to_string() + &shown;
            }
        }
        out
    }

    /// `48215 outside, then 48220, 8 inside`. What a lesson makes has a low PID inside, or a chosen
    /// one, or one that the transcript has. Any other is that of a tool, and an accident.
    fn map_pids(&mut self, text: &str) -> String {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (outside, inside) = text.split_at(end);
        let has_seen = |seen: &Vec<String>, number: &str| seen.iter().any(|one| one == number);
        let known = self.numbers.get(&FIRST_PID).cloned().unwrap_or_default();
        let is_lessons = !has_seen(&known, outside)
            && self.lesson.get_or_insert_with(|| outside.to_string()) == outside;
        let mut out = if is_lessons { LESSON_PID.to_string() } else { self.pids(outside) };
        let mut level = 0;
        for part in inside.split_inclusive(|c: char| !c.is_ascii_digit()) {
            let number = part.trim_end_matches(|c: char| !c.is_ascii_digit());
            let known =
                self.numbers.get(&FIRST_PID).is_some_and(|seen| seen.contains(&number.into()));
            out += &match number.parse() {
                Ok(4..) if known => self.pids(number),
                Ok(3..) if !self.chosen.contains(number) => {
                    self.number(FIRST_PIDS_INSIDE[level.min(1)], number)
                }
                Ok::<u32, _>(_) | Err(_) => number.to_string(),
            };
            level += usize::from(!number.is_empty());
            out += &part[number.len()..];
        }
        out
    }

    /// The user outside. Root is root.
    fn map_uids(&mut self, text: &str) -> String {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        match &text[..end] {
            "0" => text.to_string(),
            uid if self.uid.get_or_insert_with(|| uid.to_string()) == uid => {
                UID.to_string() + &text[end..]
            }
            _ => OTHER_UID.to_string() + &text[end..],
        }
    }

    /// The PIDs in a call: the numbers behind these.
    fn pids_in_call(&mut self, call: &str) -> String {
        const MARKS: [&str; 9] = [
            "/proc/",
            "{self,",
            "kill(",
            "pidfd_open(",
            "waitpid(",
            "clock_getcpuclockid(",
            " -t ",
            "-P ",
            " --parent ",
        ];
        let mut out = String::new();
        for part in call.split_inclusive(['/', '(', ' ', ',']) {
            let end = match MARKS.iter().any(|mark| out.ends_with(mark)) {
                true => part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len()),
                false => 0,
            };
            out += &self.pids(&part[..end]);
            out += &part[end..];
        }
        out
    }

    /// Every PID of the host. One digit is a PID inside: the fact, not the accident.
    fn pids(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let end = rest[at..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |n| at + n);
            out += &rest[..at];
            out += &match &rest[at..end] {
                inside if inside.len() == 1 => inside.to_string(),
                pid => self.number(FIRST_PID, pid),
            };
            rest = &rest[end..];
        }
        out + rest
    }

    /// `shared:1` and `master:1`: the number of a peer group, counted by this kernel from its boot.
    fn peer_groups(&mut self, seen: &Observation) -> String {
        let words = seen.result.split(' ').map(|word| match word.split_once(':') {
            Some((kind, group)) => format!("{kind}:{}", self.number(FIRST_PEER_GROUP, group)),
            None => word.to_string(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// `uts:[4026531838]`: the kind stays. The first of a kind that is seen is the host's.
    fn inode(&mut self, link: &str) -> String {
        let parts = link.strip_suffix(']').and_then(|link| link.split_once(":["));
        let Some((kind, inode)) = parts else { return link.to_string() };
        let known = self.inodes.iter().find(|seen| (&*seen.0, &*seen.1) == (kind, inode));
        let example = known.map(|seen| seen.2).unwrap_or_else(|| {
            let is_first = !self.inodes.iter().any(|seen| seen.0 == kind);
            let host = HOST_INODES.iter().find(|host| is_first && host.0 == kind);
            let new = self.inodes.iter().filter(|seen| seen.2 >= FIRST_NEW_INODE).count();
            let example = host.map_or(FIRST_NEW_INODE + new, |host| host.1);
            self.inodes.push((kind.to_string(), inode.to_string(), example));
            example
        });
        format!("{kind}:[{example}]")
    }

    /// The same without the kind, which is the name of the link: `4026531838 4026532201`.
    fn bare_inodes(&mut self, seen: &Observation) -> String {
        let kind = seen.call.rsplit('/').next().unwrap_or_default();
        let mut bare = |inode| {
            let link = self.inode(&format!("{kind}:[{inode}]"));
            link.trim_end_matches(']').rsplit('[').next().unwrap_or_default().to_string()
        };
        seen.result.split(' ').map(&mut bare).collect::<Vec<_>>().join(" ")
    }

    /// The user outside, in each field. Inside it is 65534 or 0: the fact, not the accident.
    fn uid(&mut self, seen: &Observation) -> String {
        if seen.who != "outside" {
            return seen.result.to_string();
        }
        let uid = self.uid.get_or_insert_with(|| seen.result.to_string());
        let ids = seen.result.split(' ').map(|id| if id == uid { UID } else { id });
        ids.collect::<Vec<_>>().join(" ")
    }

    /// A map names the user outside, or somebody else, and write(2) gives its length.
    fn id_map(&self, call: &str, result: &str) -> Option<(String, String)> {
        let (file, map) = call.strip_suffix("\")")?.split_once("id_map\", \"")?;
        let [inside, outside, count] = map.split(' ').collect::<Vec<_>>()[..] else { return None };
        let is_other = file.ends_with('u') && self.uid.as_ref().is_some_and(|uid| uid != outside);
        let shown = format!("{inside} {} {count}", if is_other { OTHER_UID } else { UID });
        let written = result == map.len().to_string();
        let result = if written { shown.len().to_string() } else { result.to_string() };
        Some((format!("{file}id_map\", \"{shown}\")"), result))
    }

    /// `/` stays, and so do paths that climb out, if they are what one sees from our cgroup.
    fn cgroup(&mut self, seen: &Observation) -> String {
        let (of_init, path) = (seen.call.starts_with("/proc/1/"), seen.result);
        match (&self.our_cgroup, &self.init_cgroup) {
            (Some(ours), Some(inits)) if of_init && path == seen_from(ours, inits) => {
                seen_from(OUR_CGROUP, INIT_CGROUP)
            }
            (Some(_), Some(inits)) if of_init && path == inits => INIT_CGROUP.to_string(),
            (Some(ours), _) if !of_init && path == ours => OUR_CGROUP.to_string(),
            (Some(_), None) if of_init => {
                self.init_cgroup = Some(path.to_string());
                INIT_CGROUP.to_string()
            }
            (None, _) if !of_init && path != "/" => {
                self.our_cgroup = Some(path.to_string());
                OUR_CGROUP.to_string()
            }
            _ => path.to_string(),
        }
    }
}

fn one_or(example: &str, result: &str) -> String {
    if result == "1" { result.to_string() } else { example.to_string() }
}

/// Hosts have their cgroups in v2 or in one of v1's hierarchies, which has a number and a name.
fn one_hierarchy(call: &str) -> String {
    match call.split_once("cgroup: ") {
        Some((file, key)) if key.ends_with(':') => format!("{file}{HIERARCHY}"),
        _ if call.starts_with("mount(\"none\", \"/mnt\", ") => MOUNT_CGROUP.to_string(),
        _ => CGROUP_FILES.iter().fold(call.to_string(), |call, (v1, v2)| call.replace(v1, v2)),
    }
}

/// A cgroup as its path is shown in a cgroup namespace whose root is `root`.
fn seen_from(root: &str, cgroup: &str) -> String {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(String::from).collect()
    };
    let (root, cgroup) = (parts(root), parts(cgroup));
    let common = root.iter().zip(&cgroup).take_while(|(a, b)| a == b).count();
    let down = cgroup[common..].iter().map(|part| format!("/{part}"));
    "/..".repeat(root.len() - common) + &down.collect::<String>()
}
