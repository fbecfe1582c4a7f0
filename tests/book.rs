//! The book cannot drift: it names the lessons that exist, shows their accepted output and source,
//! and claims what they check. (That every include is in the rendered page is tested with the
//! renderer, in book/reader/tests.)

mod lessons;

use std::collections::BTreeSet;
use std::fs;

use workbook::contents;

fn read(file: &str) -> String {
    let path = contents::root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn chapter(lesson: &str) -> String {
    read(&format!("book/src/{lesson}.md"))
}

/// The accepted snapshots: their names, without `.snap`.
fn snapshots() -> BTreeSet<String> {
    let folder = contents::root().join("tests/snapshots");
    let files = fs::read_dir(folder).expect("tests/snapshots is a folder");
    let names = files.map(|file| file.expect("an entry").file_name().into_string());
    names.map(|name| name.expect("UTF-8").replace(".snap", "")).collect()
}

#[test]
fn manifest_summary_files_and_snapshots_name_the_same_lessons() {
    let files: BTreeSet<_> = lessons::all().into_iter().collect();

    let manifest = read("Cargo.toml") + &read("container/Cargo.toml");
    let programs = manifest.split("\n[[bin]]\n").skip(1);
    let lesson_programs: BTreeSet<_> = programs
        .filter(|program| program.contains("lessons/"))
        .map(|program| {
            let name = program.split('"').nth(1).expect("a name comes first");
            assert!(program.contains(&format!("lessons/{name}.rs\"")), "{program}");
            name.to_string()
        })
        .collect();
    assert_eq!(lesson_programs, files, "Cargo.toml and lessons/");

    let summary: Vec<_> = contents::lessons().expect("SUMMARY.md").into_iter().collect();
    let chapters: BTreeSet<_> = summary.iter().map(|lesson| lesson.name.clone()).collect();
    assert_eq!(chapters, files, "book/src/SUMMARY.md and lessons/");
    assert_eq!(chapters.len(), summary.len(), "a lesson is in SUMMARY.md once");

    let mut transcripts = BTreeSet::new();
    for lesson in &files {
        if lessons::has_shell(lesson) {
            transcripts.insert(format!("{lesson}@shell"));
        }
        if lessons::has_a_map(lesson) {
            transcripts.extend(["map", "svg"].map(|kind| format!("{lesson}@{kind}")));
        }
        for control in lessons::runs(lesson) {
            let suffix = control.map(|control| format!("@without-{control}"));
            transcripts.insert(lesson.clone() + suffix.as_deref().unwrap_or_default());
        }
    }
    let accepted: BTreeSet<_> = snapshots()
        .into_iter()
        .filter(|name| !name.contains("@mistake-") && !is_of_no_lesson(name))
        .filter(|name| !name.contains("@root")) // where root sees something else: transcripts.rs
        .collect();
    assert_eq!(accepted, transcripts, "tests/snapshots and the ways to run a lesson");
}

/// What all lessons do on some host, or on each; or the workbook.
fn is_of_no_lesson(snapshot: &str) -> bool {
    let prefixes = ["kernels@", "refused@", "tests@", "workbook@"];
    prefixes.iter().any(|prefix| snapshot.starts_with(prefix))
}

#[test]
fn a_chapter_shows_its_lessons_source_and_every_accepted_output() {
    for lesson in lessons::names() {
        let chapter = chapter(&lesson);
        assert!(chapter.starts_with(&format!("# {lesson}: ")), "{lesson}: the title");
        let source = format!("{{{{#include ../../lessons/{lesson}.rs");
        assert!(chapter.contains(&source), "{lesson}: the chapter shows no source");
        for name in snapshots() {
            if name == lesson || name.starts_with(&format!("{lesson}@")) {
                let include = format!("{{{{#include ../../tests/snapshots/{name}.snap:4:}}}}");
                assert!(chapter.contains(&include), "{lesson}: the chapter lacks {include}");
            }
        }
    }
}

/// insta's header is three lines, so a chapter includes a snapshot from line 4. The first line of
/// the output is the reader's command.
#[test]
fn an_included_snapshot_starts_with_the_readers_command() {
    let is_a_part = |name: &str| {
        name.starts_with("refused@") || name.starts_with("kernels@") || name.ends_with("@svg")
    };
    for name in snapshots().iter().filter(|name| !is_a_part(name)) {
        let text = read(&format!("tests/snapshots/{name}.snap"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines[2]), ("---", "---"), "{name}");
        assert!(lines[3].starts_with("$ "), "{name}: {}", lines[3]);
        assert!(lines.len() > 4, "{name} is empty");
    }
}

/// Code and output come by include. The only lines typed into a block are commands.
#[test]
fn nothing_shown_is_typed() {
    let mut files: Vec<_> = fs::read_dir(contents::root().join("book/src"))
        .expect("book/src is a folder")
        .map(|file| file.expect("an entry").path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable chapter");
        for block in text.split("\n```").skip(1).step_by(2) {
            let (_, shown) = block.split_once('\n').expect("a block has a first line");
            let typed = shown.lines().find(|line| {
                !line.is_empty() && !line.starts_with("{{#include ") && !line.starts_with("$ ")
            });
            assert_eq!(typed, None, "{} has typed code or output", file.display());
        }
    }
}

/// A chapter marks a claim where it explains it, as in (**A20**).
#[test]
fn a_chapter_explains_exactly_the_claims_that_its_lesson_checks() {
    for lesson in lessons::names() {
        let chapter = chapter(&lesson);
        let marks = chapter.split("(**").skip(1);
        let explained: Vec<_> = marks
            .map(|text| text.split_once("**)").expect("a mark ends with **)").0.to_string())
            .collect();
        let declared: BTreeSet<_> = lessons::claims(&lesson).into_iter().map(|c| c.0).collect();
        assert_eq!(explained.iter().cloned().collect::<BTreeSet<_>>(), declared, "{lesson}");
        assert_eq!(explained.len(), declared.len(), "{lesson} explains a claim twice");
    }
}

/// An id of our own has one home. An article's number may be checked by several lessons, each of
/// which says in its own words what it checks.
#[test]
fn a_claim_has_one_home() {
    let all = lessons::all().into_iter().flat_map(|lesson| lessons::claims(&lesson));
    let mut seen = BTreeSet::new();
    for (id, sentence) in all {
        assert!(seen.insert(sentence.clone()), "declared twice: {sentence}");
        let is_the_articles = article(&id).is_some();
        assert!(is_the_articles || seen.insert(id.clone()), "{id} is declared twice");
    }
}

#[test]
fn every_claim_of_the_article_has_a_lesson() {
    let all = lessons::all().into_iter().flat_map(|lesson| lessons::claims(&lesson));
    let covered: BTreeSet<_> = all.filter_map(|(id, _)| article(&id)).collect();
    assert_eq!(covered, (1..=20).collect(), "A1 to A20");
}

/// The table of LWN's series: each row has a lesson, and claims that this lesson checks.
#[test]
fn every_part_of_lwns_series_has_a_lesson() {
    const PROGRAMS: [&str; 13] = [
        "demo_uts_namespaces",
        "ns_exec",
        "unshare",
        "pidns_init_sleep",
        "multi_pidns",
        "ns_child_exec",
        "simple_init",
        "orphan",
        "ns_run",
        "demo_userns",
        "userns_child_exec",
        "userns_setns_test",
        "ip netns",
    ];
    let page = read("book/src/lwn.md");
    for program in PROGRAMS {
        assert!(page.contains(&format!("| `{program}`")), "no row for {program}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, _, lesson, claims] = cells[..] else { panic!("five columns: {row}") };
        let lesson = lesson.trim_start_matches('[').split(']').next().unwrap_or_default();
        assert!(lessons::all().iter().any(|name| name == lesson), "which lesson? {row}");
        let declared = lessons::claims(lesson);
        for id in claims.split(", ") {
            assert!(declared.iter().any(|claim| claim.0 == id), "{lesson} does not check {id}");
        }
    }
}

/// A reader who meets a word for the first time can look it up.
#[test]
fn a_term_of_the_glossary_is_linked_where_the_book_first_uses_it() {
    let glossary = read("book/src/glossary.md");
    let lines: Vec<_> = glossary.lines().collect();
    let entries = lines.windows(2).filter(|two| two[1].starts_with(": "));
    let mut terms: Vec<_> = entries.map(|two| two[0].to_lowercase()).collect();
    terms.sort_by_key(|term| std::cmp::Reverse(term.len())); // `pid namespace` before `pid`

    let summary = read("book/src/SUMMARY.md");
    let (chapters, _appendix) = summary.split_once("# Appendix").expect("an appendix");
    let chapters = chapters.split("](").skip(1).filter_map(|link| link.split_once(')'));
    let mut book: String =
        chapters.map(|(file, _)| prose(&read(&format!("book/src/{file}")), &terms)).collect();
    for term in terms {
        let found: Vec<_> = mentions(&book, &term).collect();
        if let Some(&(start, end)) = found.first() {
            let link = format!("](glossary.md#{})", term.replace(' ', "-"));
            let is_linked = book[..start].trim_end_matches(['`', '*']).ends_with('[')
                && book[end..].trim_start_matches(['`', '*']).starts_with(&link);
            let around: String = book[..end].chars().rev().take(60).collect();
            let around: String = around.chars().rev().collect();
            assert!(is_linked, "{term} has no link to the glossary: {around}");
        }
        for (start, end) in found {
            book.replace_range(start..end, &" ".repeat(end - start));
        }
    }
}

/// What a chapter says in sentences, in one line: no code, headings, tables, nor links elsewhere.
fn prose(chapter: &str, terms: &[String]) -> String {
    let mut prose = String::new();
    for (nth, part) in chapter.split("\n```").enumerate() {
        let sentences = part.lines().filter(|line| nth % 2 == 0 && !line.starts_with(['#', '|']));
        prose.extend(sentences.flat_map(|line| [line.trim(), " "]));
    }
    let prose = prose.replace("*Starting with Linux Containers*", "").to_lowercase();
    let code = prose.split('`').enumerate().map(|(nth, part)| match nth % 2 {
        1 if !terms.iter().any(|term| term == part) => String::new(),
        1 => format!("`{part}`"),
        _ => part.to_string(),
    });
    let prose = code.collect::<String>();
    let mut kept = String::new();
    for part in prose.split_inclusive(')') {
        let elsewhere = part.rfind("](").filter(|at| !part[*at..].starts_with("](glossary.md#"));
        let text = elsewhere.and_then(|at| part[..at].rfind('['));
        kept += text.map_or(part, |at| &part[..at]);
    }
    kept
}

/// Where a word, or its plural, is in a text.
fn mentions(text: &str, term: &str) -> impl Iterator<Item = (usize, usize)> {
    let in_word = |c: char| c.is_alphanumeric() || "_/-#.".contains(c);
    text.match_indices(term).filter_map(move |(start, _)| {
        let rest = &text[start + term.len()..];
        let plural = ["es", "s", ""].into_iter().find(|end| {
            let mut after = rest.strip_prefix(*end).unwrap_or("-").chars();
            match (after.next(), after.next()) {
                (Some('.'), Some(next)) => !next.is_alphanumeric(),
                (Some(next), _) => !in_word(next) && next != '(',
                (None, _) => true,
            }
        })?;
        let is_start = !text[..start].ends_with(in_word);
        is_start.then_some((start, start + term.len() + plural.len()))
    })
}

/// The number of one of the article's claims.
fn article(id: &str) -> Option<u32> {
    id.strip_prefix('A')?.parse().ok()
}

/// The README shows the real output, lists the lessons and names both commands.
#[test]
fn the_readme_shows_what_a_newcomer_will_see() {
    let readme = read("README.md");
    let output = read("tests/snapshots/pid-demo.snap");
    let output = output.lines().skip(3).collect::<Vec<_>>().join("\n");
    assert!(readme.contains(&output), "README.md shows another output of pid-demo");
    assert!(readme.contains("cargo test --workspace"), "README.md lacks the test command");
    let rows: Vec<_> = contents::lessons()
        .expect("SUMMARY.md")
        .iter()
        .map(|lesson| format!("| [`{0}`](lessons/{0}.rs) | {1} |", lesson.name, lesson.title))
        .collect();
    assert!(readme.contains(&rows.join("\n")), "README.md should list:\n{}", rows.join("\n"));
}
