//! The one renderer of what varies between two runs: host PIDs, inodes, the user who runs it, the
//! host's name, the name of its init, the numbers of its processes, mounts and peer groups. Each by
//! its label, in order of first sight: equal stays equal, different stays different, and what a
//! lesson teaches (PID 1, ESRCH, the name `container`) stays as it is.

#![allow(dead_code)] // each test file uses its own part

use std::fs::read_to_string;

use nix::unistd::gethostname;

/// The example values that stand for the real ones. The book shows them.
const FIRST_PID: usize = 48212;
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
/// Kernels and their boots: the host's, then the guest's.
const RELEASES: [&str; 2] = ["6.12.48", "6.1.0"];
const BOOTS: [&str; 2] = ["5d1c07e9", "b2f8a634"];
const QEMU_THREADS: &str = "4";
/// A session of systemd, and its init; v2, so hierarchy 0 without a name.
const OUR_CGROUP: &str = "/user.slice/me.scope";
const INIT_CGROUP: &str = "/init.scope";
const HIERARCHY: &str = "cgroup: 0::";
const MOUNT_CGROUP: &str = "mount(\"none\", \"/mnt\", \"cgroup2\", 0, NULL)";

/// What was seen so far, in this order.
#[derive(Default)]
struct Seen {
    pids: Vec<String>,
    words: Vec<String>,
    /// Kind, inode, example.
    inodes: Vec<(String, String, usize)>,
    mount_counts: Vec<String>,
    peer_groups: Vec<String>,
    /// Who runs the lesson: what getuid() gave outside.
    uid: Option<String>,
    host_name: Option<String>,
    host_init: Option<String>,
    boots: Vec<String>,
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
    let host_name = gethostname().expect("the host has a name").into_string().ok();
    let host_init = read_to_string("/proc/1/comm").ok().map(|comm| comm.trim_end().to_string());
    let seen = Seen { host_name, host_init, ..Seen::default() };
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
        let is_uid = call == "getuid()" || call.ends_with(": st_uid") || call.ends_with(": Uid");
        let result = if is_uid && who.starts_with("outside") {
            self.uids(result)
        } else if call == "cut -d- -f1 /proc/sys/kernel/osrelease" {
            // Two kernels of one distribution may well be of one release.
            RELEASES[usize::from(who.starts_with("guest"))].to_string()
        } else {
            self.result(call, result)
        };
        let call = self.pids_in_call(call);
        format!("{who}{call:<47} = {result}")
    }

    fn result(&mut self, call: &str, result: &str) -> String {
        match call {
            "gethostname()" => {
                self.host_name.get_or_insert_with(|| result.to_string());
                self.known_word(result)
            }
            "cat /proc/1/comm" => {
                self.host_init.get_or_insert_with(|| result.to_string());
                self.known_word(result)
            }
            "cut -d- -f1 /proc/sys/kernel/random/boot_id" => {
                let nth = nth(&mut self.boots, result);
                BOOTS.get(nth).map_or_else(|| result.to_string(), |boot| boot.to_string())
            }
            // Between two looks at the host's list a process may come or go: only 1 means much.
            "ls -d /proc/[0-9]* | wc -l" if result != "1" => HOST_PROCESSES.to_string(),
            _ if call.ends_with(": Name, NSpid (first, last)") => self.pids(result),
            _ if call.ends_with(HIERARCHY) || call.contains("mountinfo: root of /mnt") => {
                self.cgroup(call.starts_with("/proc/1/"), result)
            }
            "wc -l < /proc/self/mountinfo" => {
                (HOST_MOUNTS + nth(&mut self.mount_counts, result)).to_string()
            }
            _ if call.starts_with("/proc/self/mountinfo: ") => self.peer_groups(result),
            "getpid()" | "getppid()" | "fork()" => self.pids(result),
            _ if call.ends_with("/proc/self\")") => self.pids(result),
            // qemu starts and ends some as it likes.
            _ if call.ends_with("/task | wc -l") && !call.contains("self") && result != "1" => {
                QEMU_THREADS.to_string()
            }
            _ if call.starts_with("clone") && !call.contains("set_tid") => self.pids(result),
            _ if call.ends_with(" NSpid") => self.pids(result),
            _ if call.ends_with("& echo $!") => self.pids(result),
            // The time at which a process was made: equal stays equal.
            _ if call.ends_with("/environ") && result.starts_with("WORD=") => {
                format!("WORD={}", FIRST_WORD + nth(&mut self.words, result))
            }
            _ if call.starts_with("NSpid of ") && call.ends_with("first field") => {
                self.pids(result)
            }
            _ if call.starts_with("fork(), execve(") => self.pids(result),
            _ if result.ends_with(']') && result.contains(":[") => self.inode(result),
            _ if call.starts_with("stat -Lc %i /proc/") => self.bare_inodes(call, result),
            _ => result.to_string(),
        }
    }

    /// The PIDs in a call: the numbers behind these.
    fn pids_in_call(&mut self, call: &str) -> String {
        const MARKS: [&str; 8] =
            ["/proc/", "{self,", "kill(", "pidfd_open(", "waitpid(", " -t ", "-P ", " --parent "];
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
                pid => (FIRST_PID + nth(&mut self.pids, pid)).to_string(),
            };
            rest = &rest[end..];
        }
        out + rest
    }

    /// `shared:1` and `master:1`: the number of a peer group, counted by this kernel from its boot.
    fn peer_groups(&mut self, fields: &str) -> String {
        let words = fields.split(' ').map(|word| match word.split_once(':') {
            Some((kind, group)) => format!("{kind}:{}", 1 + nth(&mut self.peer_groups, group)),
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
    fn bare_inodes(&mut self, call: &str, result: &str) -> String {
        let kind = call.rsplit('/').next().unwrap_or_default();
        let mut bare = |inode| {
            let link = self.inode(&format!("{kind}:[{inode}]"));
            link.trim_end_matches(']').rsplit('[').next().unwrap_or_default().to_string()
        };
        result.split(' ').map(&mut bare).collect::<Vec<_>>().join(" ")
    }

    /// The user outside, in each field. Inside it is 65534 or 0: the fact, not the accident.
    fn uids(&mut self, result: &str) -> String {
        let uid = self.uid.get_or_insert_with(|| result.to_string());
        let ids = result.split(' ').map(|id| if id == uid { UID } else { id });
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
    fn cgroup(&mut self, of_init: bool, path: &str) -> String {
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

    fn known_word(&self, word: &str) -> String {
        let is = |known: &Option<String>| known.as_deref() == Some(word);
        match word {
            _ if is(&self.host_name) => HOST_NAME,
            _ if is(&self.host_init) => HOST_INIT,
            _ if self.boots.first().is_some_and(|boot| boot == word) => BOOTS[0],
            other => other,
        }
        .to_string()
    }
}

/// Hosts have their cgroups in v2 or in one of v1's hierarchies, which has a number and a name.
fn one_hierarchy(call: &str) -> String {
    match call.split_once("cgroup: ") {
        Some((file, key)) if key.ends_with(':') => format!("{file}{HIERARCHY}"),
        _ if call.starts_with("mount(\"none\", \"/mnt\", ") => MOUNT_CGROUP.to_string(),
        _ => call.to_string(),
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

fn nth(seen: &mut Vec<String>, value: &str) -> usize {
    let known = seen.iter().position(|other| other == value);
    known.unwrap_or_else(|| {
        seen.push(value.to_string());
        seen.len() - 1
    })
}
