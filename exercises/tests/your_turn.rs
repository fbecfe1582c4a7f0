//! The page with the steps, and the ends of the chapters.

use std::collections::BTreeSet;
use std::fs;

use exercises::check::bounds::{MOST_BYTES, MOST_MEMORY, MOST_PROCESSES};
use exercises::check::cgroups::LIMITS;
use exercises::check::stage::DEADLINE;
use exercises::check::steps::STEPS;
use exercises::check::words::{PAGE, Words};
use workbook::contents;

/// Their subject is no part of one's own container, or it is all of it.
const WITHOUT_A_STEP: [&str; 12] = [
    "kvm-demo",
    "vm-demo",
    "guest-demo",
    "visible-demo",
    "lxc-demo",
    "namespaces-demo",
    "migrate-demo",
    "criu-demo",
    "time-demo",
    "refused-demo",
    "chroot-demo",
    "container-demo",
];

fn read(file: &str) -> String {
    fs::read_to_string(contents::root().join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_page_has_the_steps_that_the_checker_knows_each_with_three_hints() {
    let page = read(PAGE);
    let sections: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("### ")?.split_once(": ")).collect();
    let known: Vec<_> =
        STEPS.iter().map(|step| format!("{} {}", step.number(), step.name)).collect();
    assert_eq!(sections.iter().map(|section| section.0).collect::<Vec<_>>(), known);
    for (step, (_, title)) in STEPS.iter().zip(sections) {
        let words = Words::of(step);
        assert_eq!(words.title, title, "{}", step.name);
        assert!(!words.wanted.is_empty(), "{}: what is wanted?", step.name);
        assert_eq!(words.hints.len(), 3, "{}: a nudge, the man page, the lesson", step.name);
        assert!(words.hints[2].contains("-demo"), "{}: {}", step.name, words.hints[2]);
    }
}

#[test]
fn a_chapter_ends_with_its_step() {
    let mut ends = BTreeSet::new();
    for lesson in contents::lessons().expect("SUMMARY.md") {
        let name = lesson.name.as_str();
        let chapter = read(&format!("book/src/{name}.md"));
        let end = chapter.rsplit_once("\n## Your turn\n\n").map_or("", |(_, end)| end);
        let step = STEPS.iter().find(|step| {
            let include = format!("{{{{#include your-turn.md:{}}}}}\n", step.name);
            end == format!("{include}\nThe whole source is `lessons/{name}.rs`.\n")
        });
        assert_eq!(step.is_none(), WITHOUT_A_STEP.contains(&name), "{name} ends with: {end}");
        ends.extend(step.map(|step| (name.to_string(), step.name)));
    }
    for step in &STEPS {
        let end = (step.lesson.to_string(), step.name);
        assert!(ends.contains(&end), "{} does not end with step {}", step.lesson, step.name);
    }
}

#[test]
fn the_page_says_what_a_program_may_take() {
    assert_eq!((DEADLINE.as_secs(), MOST_BYTES), (10, 1 << 20));
    assert_eq!(LIMITS, [("pids.max", "1000"), ("memory.max", "1073741824")]);
    let mebibytes = MOST_MEMORY >> 20;
    let says = format!(
        "It has ten seconds for a step, {MOST_PROCESSES} processes with their threads, and \
         {mebibytes} MiB of memory for all of them, and may print a mebibyte."
    );
    let page = read(PAGE).split_whitespace().collect::<Vec<_>>().join(" ");
    for says in [&*says, "all together may have a gibibyte, and a thousand processes"] {
        assert!(page.contains(says), "{says}");
    }
}
