//! What `workbook map` draws of a lesson is what the book shows: its accepted map, in words and as a
//! picture. And what it draws of other processes, and when it draws nothing.
//!
//! To accept a new map: `INSTA_UPDATE=always cargo test --test maps`, then read the difference that git
//! shows.

mod accepted;
mod host;
mod lessons;
mod normal;

use accepted::assert_accepted;
use host::User;

/// A map of a lesson, with example values.
fn drawn(lesson: &str, option: &[&str], user: User) -> String {
    lessons::program(lesson);
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
    lessons::each(&with_a_map(), |lesson| {
        let map = drawn(lesson, &[], shown(lesson));
        assert_accepted(&format!("{lesson}@map"), &format!("$ cargo run -- map {lesson}\n{map}"));
        let svg = drawn(lesson, &["--svg"], shown(lesson));
        assert_accepted(&format!("{lesson}@svg"), &svg);
    });
}

/// The book shows the ordinary user's map. Root's has the same processes, and the same namespaces but
/// for the one that an ordinary user needs first.
#[test]
fn root_sees_the_same_without_the_user_namespace() {
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
fn a_lesson_without_namespaces_is_drawn_on_the_host() {
    for lesson in lessons::here().iter().filter(|lesson| !lessons::has_a_map(lesson)) {
        let map = drawn(lesson, &[], shown(lesson));
        assert!(!map.contains(" namespace "), "{lesson}: {map}");
        assert!(map.contains(&format!("\n- {lesson}: PID ")), "{map}");
    }
}
