//! The same bundle under runc, under crun, and under container-demo: what a process inside sees is
//! compared field by field. Where they differ, the reason stands here, and the book shows it.

mod accepted;
mod census;
mod host;
mod lessons;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process};

use host::User;
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

const LESSON: &str = "container-demo";

/// What is not the same: the fields; what runc has, what ours has, why.
const DIFFERENCES: &[[&str; 4]] = &[
    ["pid", "1", "2", "ours has an init; with --system it has none"],
    ["ppid", "0", "1", "so that init is the command's parent"],
    ["env HOME", "from /etc/passwd, or /", "none", "the specification has no such rule"],
    [
        "mount /dev/full, mount /dev/null, mount /dev/random, mount /dev/tty, mount /dev/urandom, \
         mount /dev/zero",
        "none, as root",
        "bind mounts",
        "root's runc makes the files with mknod(2)",
    ],
    [
        "mount /proc/keys, mount /proc/timer_list",
        "of its /dev, as root",
        "of the host's",
        "so the null that covers these is another",
    ],
];

/// Prints a field and its value in a line, for everything that can be asked for.
const PROBE: &str = r#"
say() { echo "$1	$2"; }
for ns in cgroup ipc mnt net pid time user uts; do say "ns $ns" "$(busybox readlink /proc/self/ns/$ns)"; done
say pid $$; say ppid $PPID; say cwd "$PWD"; say args "$*"; say umask "$(umask)"
say uid "$(busybox id -u)"; say gid "$(busybox id -g)"
say hostname "$(busybox hostname)"
say uid_map "$(echo $(busybox cat /proc/self/uid_map))"
say gid_map "$(echo $(busybox cat /proc/self/gid_map))"
say setgroups "$(busybox cat /proc/self/setgroups)"
say oom_score_adj "$(busybox cat /proc/self/oom_score_adj)"
busybox grep -E '^(Groups|Cap...|NoNewPrivs|Seccomp|Sig(Blk|Ign))' /proc/self/status |
    while IFS=':' read name value; do say "status $name" "$(echo $value)"; done
busybox tail -n +2 /proc/self/limits | while read line; do
    say "limit $(echo "$line" | busybox cut -c1-25)" "$(echo $(echo "$line" | busybox cut -c26-))"
done
busybox env | while IFS='=' read name value; do say "env $name" "$value"; done
busybox cat /proc/self/mountinfo | while read id parent device root place options rest; do
    say "mount $place" "$options $(echo "$rest" | busybox sed 's/.*- //')"
done
for device in /dev/*; do say "dev $device" "$(busybox stat -c '%F %a %t %T' $device)"; done
for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && say "fd $fd" open; done
busybox tty >/dev/null; say terminal $?
exit 42
"#;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("oracle-{}", process::id()));
        let bin = folder.join("rootfs/bin");
        fs::create_dir_all(&bin).expect("a folder");
        let busybox = workbook::tool::find("busybox").expect("busybox, which runs inside");
        fs::copy(busybox, bin.join("busybox")).expect("a copy");
        symlink("busybox", bin.join("sh")).expect("a link");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // should it stay, so be it: it is in no other's way
    }
}

/// Much like what `runc spec` writes, or `runc spec --rootless`.
fn config(user: User, uid: u32) -> Value {
    let mut config: Value =
        serde_json::from_str(include_str!("../container/src/config.json")).expect("it is JSON");
    config["process"]["args"] = json!(["sh", "-c", PROBE, "sh", "one", "two words"]);
    config["process"]["env"] = json!(["PATH=/bin", "EMPTY=", "SPACED=a b"]);
    config["process"]["cwd"] = json!("/proc");
    config["process"]["user"] = json!({ "uid": uid, "gid": uid });
    if uid != 0 {
        config["process"]["user"]["additionalGids"] = json!([7, 8]);
        config["process"]["user"]["umask"] = json!(0o27);
    }
    config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
    ]);
    config["root"]["readonly"] = json!(true);
    let linux = config["linux"].as_object_mut().expect("an object");
    linux.remove("seccomp"); // ours would have its own filter
    let namespaces = linux["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|namespace| namespace["type"] != "cgroup"); // runc 1.1 has none on v1
    if user == User::Ordinary {
        namespaces.push(json!({ "type": "user" }));
        let id = |of_the_user: u32| if geteuid().is_root() { 1000 } else { of_the_user };
        let map = |id| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        linux.insert("uidMappings".into(), map(id(geteuid().as_raw())));
        linux.insert("gidMappings".into(), map(id(getegid().as_raw())));
    }
    config
}

type Fields = BTreeMap<String, String>;

/// What the probe sees under this runtime; or why there is none.
fn look(runtime: &str, user: User, bundle: &Path) -> Result<Fields, String> {
    let mut command = match runtime {
        "ours" => lessons::command(LESSON),
        other => {
            let program = workbook::tool::find(other).map_err(|refusal| refusal.to_string())?;
            let mut command = Command::new(program);
            command.arg("--root").arg(bundle.join("state")).arg("run");
            command
        }
    };
    command.arg("--bundle").arg(bundle).stdin(Stdio::null());
    if runtime != "ours" {
        command.arg(format!("oracle-{}", process::id()));
    }
    let output = host::run_as(&mut command, user).output().expect("it starts");
    let (said, why) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.is_empty() {
        return Err(why.lines().last().unwrap_or_default().to_string());
    }
    assert!(runtime != "ours" || why.is_empty(), "{why}");
    let fields = said.lines().filter_map(|line| line.split_once('\t'));
    let mut fields: Fields =
        fields.map(|(name, value)| (name.trim().into(), value.into())).collect();
    fields.insert("exit status".into(), format!("{:?}", output.status.code()));
    for (name, value) in &mut fields {
        if name == "status SigIgn" {
            // Those above 31 are in the hands of libc, and of Go's runtime.
            let ignored = u64::from_str_radix(value, 16).expect("a mask");
            *value = format!("{:x}", ignored & 0x7fff_ffff);
        }
        if let Some(kind) = name.strip_prefix("ns ") {
            let hosts = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a link");
            // An ordinary user of these tests, run by root, has a user namespace around it.
            let is_hosts = hosts.to_str() == Some(value) && kind != "user";
            let is_users = kind == "user" && user == User::Root;
            *value = if is_hosts || is_users { "shared" } else { "new" }.into();
        }
    }
    Ok(fields)
}

#[test]
fn a_process_inside_sees_what_it_sees_under_other_runtimes() {
    if !lessons::names().iter().any(|name| name == LESSON) {
        return;
    }
    let in_ci = env::var_os("CI").is_some();
    if workbook::tool::find("busybox").is_err() && !in_ci {
        return eprintln!("not tried here: busybox is not installed");
    }
    let _turn = census::turn();
    let folder = Folder::new();
    let mut unexplained = Vec::new();
    let (mut met, mut same, mut tried) = (vec![false; DIFFERENCES.len()], Fields::new(), 0);
    for (user, uid) in [(User::Root, 0), (User::Root, 1000), (User::Ordinary, 0)] {
        if user == User::Root && !geteuid().is_root() {
            continue; // an ordinary user's root is not what runc takes for one
        }
        fs::write(folder.0.join("config.json"), config(user, uid).to_string()).expect("a file");
        let ours = look("ours", user, &folder.0).expect("ours");
        for other in ["runc", "crun"] {
            let others = match look(other, user, &folder.0) {
                Ok(fields) => fields,
                Err(why) => {
                    assert!(!in_ci || other != "runc", "{other} as {user:?}: {why}");
                    eprintln!("not tried here: {other} as {user:?}: {why}");
                    continue;
                }
            };
            tried += 1;
            let none = String::new();
            for field in ours.keys().chain(others.keys()) {
                let [its, our] = [&others, &ours].map(|all| all.get(field).unwrap_or(&none));
                if its == our {
                    same.insert(field.clone(), our.clone());
                    continue;
                }
                match DIFFERENCES.iter().position(|row| row[0].split(", ").any(|one| one == field))
                {
                    Some(reason) => met[reason] = true,
                    None => unexplained.push(format!(
                        "{user:?}, uid {uid}: {field}: {other} has {its:?}, ours {our:?}"
                    )),
                }
            }
        }
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    if tried == 0 {
        return;
    }
    assert!(same.len() > 40, "{same:?}");
    accepted::assert_accepted("tests@oracle", &table());
    let unmet = DIFFERENCES.iter().zip(met).filter(|(_, met)| !met).map(|(row, _)| row[0]);
    let unmet: Vec<_> = unmet.collect();
    assert!(unmet.is_empty() || !in_ci || !geteuid().is_root(), "the same by now: {unmet:?}");
    println!("the same: {}", same.keys().cloned().collect::<Vec<_>>().join(", "));
}

/// As the book shows it.
fn table() -> String {
    let mut table = "$ cargo test --test oracle\n".to_string();
    for [fields, its, ours, why] in DIFFERENCES {
        for field in fields.split(", ") {
            let _ = writeln!(table, "{field}"); // a String takes everything
        }
        let _ = writeln!(table, "    runc  {its}\n    ours  {ours}\n    why   {why}");
    }
    table
}
