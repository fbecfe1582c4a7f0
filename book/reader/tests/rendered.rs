//! The rendered book shows what the lessons are and what they print. mdBook says nothing about a
//! missing anchor or a range past the end, so every include is resolved here once more, by itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use dom_query::Document;
use exercises::check::steps::Step;
use exercises::questions::questions;

fn book() -> PathBuf {
    book_reader::folder()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages, written once for all tests, in the folder that cargo gives to tests. The command says
/// where the first one is.
fn pages() -> &'static Path {
    static PAGES: OnceLock<PathBuf> = OnceLock::new();
    PAGES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("book");
        let _ = fs::remove_dir_all(&folder); // may not be there
        let mut command = Command::new(env!("CARGO_BIN_EXE_book"));
        command.args(["build", "--dest"]).arg(&folder);
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(Path::new(said.trim_end()), folder.join("index.html"));
        folder
    })
}

/// The chapters that SUMMARY.md names, as file stems.
fn chapters() -> Vec<String> {
    let summary = read(&book().join("src/SUMMARY.md"));
    let links = summary.split("](").skip(1).filter_map(|link| link.split_once(".md)"));
    links.map(|(name, _)| name.to_string()).collect()
}

/// The text of an `{{#include FILE:FROM:TO}}` or `{{#include FILE:ANCHOR}}`; an error is a
/// sentence.
fn included(chapter: &Path, target: &str) -> Result<String, String> {
    let mut parts = target.split(':');
    let file = parts.next().unwrap_or_default();
    let folder = chapter.parent().expect("a chapter is in a folder");
    let text = fs::read_to_string(folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
    let lines: Vec<_> = text.lines().collect();
    let number = |part: &str| part.parse::<usize>().ok();
    let shown = match (parts.next(), parts.next()) {
        (None, _) => lines,
        (Some(from), to) if number(from).is_some() => {
            let to = to.and_then(number).unwrap_or(lines.len());
            let from = number(from).unwrap_or_default();
            lines.get(from - 1..to).ok_or(format!("{file} has no lines {from} to {to}"))?.to_vec()
        }
        (Some(anchor), _) => {
            let at = |mark: &str| {
                let mark = format!("{mark}: {anchor}");
                let at_end =
                    |line: &&str| line.trim_end_matches(" -->").trim_end().ends_with(&mark);
                lines.iter().position(at_end)
            };
            let start = at("ANCHOR").ok_or(format!("{file} has no anchor {anchor}"))?;
            let end = at("ANCHOR_END").ok_or(format!("{file} never ends the anchor {anchor}"))?;
            let inside = &lines[start + 1..end];
            inside.iter().copied().filter(|line| !line.contains("ANCHOR")).collect()
        }
    };
    match shown.iter().any(|line| !line.trim().is_empty()) {
        true => Ok(shown.join("\n")),
        false => Err(format!("{target} is empty")),
    }
}

/// The text of a page: without tags, with its characters.
fn text(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        text += part.split_once('>').map_or(part, |(_, text)| text);
    }
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'")];
    entities.iter().fold(text, |text, (name, c)| text.replace(name, c)).replace("&amp;", "&")
}

#[test]
fn every_page_shows_every_include_of_its_chapter() {
    let mut shown = 0;
    for name in chapters() {
        let chapter = book().join("src").join(&name).with_extension("md");
        let page = text(&read(&pages().join(&name).with_extension("html")));
        assert!(!page.contains("{{#"), "{name}: a directive was not resolved");
        for directive in read(&chapter).split("{{#include ").skip(1) {
            let target = directive.split("}}").next().expect("a directive ends");
            let expected = included(&chapter, target).unwrap_or_else(|e| panic!("{name}: {e}"));
            let is_picture = target.contains("@svg.snap"); // in the page it is elements, too
            let expected = if is_picture { text(&expected) } else { expected };
            for expected in as_rendered(target, &expected) {
                assert!(page.contains(expected), "{name} lacks {target}:\n{expected}");
            }
            shown += 1;
        }
    }
    assert!(shown > 10, "the chapters include source and output");
}

/// What a page must have of an include: all of it; of Markdown the heading and the commands, which
/// rendering leaves as they are.
fn as_rendered<'a>(target: &str, text: &'a str) -> Vec<&'a str> {
    if !target.contains(".md") {
        return vec![text];
    }
    let lines = text.lines().filter(|line| line.starts_with("### ") || line.starts_with("$ "));
    lines.map(|line| line.trim_start_matches("### ")).collect()
}

#[test]
fn a_missing_file_anchor_or_line_is_found() {
    let chapter = book().join("src/pid-demo.md");
    for target in [
        "../../lessons/no-such.rs",
        "../../lessons/pid-demo.rs:no-such",
        "../../lessons/pid-demo.rs:9999:",
        "../../tests/snapshots/pid-demo.snap:6:6", // the empty line below the title
    ] {
        assert!(included(&chapter, target).is_err(), "{target}");
    }
}

/// A page may show no other in a frame: the server forbids it.
#[test]
fn without_scripts_a_page_links_to_the_contents() {
    for name in chapters() {
        let page = Document::from(read(&pages().join(&name).with_extension("html")));
        assert!(!page.select("iframe").exists(), "{name}");
        // Not in the bar at the side, which only a script opens.
        let instead = page.select("main noscript").inner_html();
        assert!(instead.contains("href=\"toc.html\""), "{name}: {instead}");
    }
    let contents = Document::from(read(&pages().join("toc.html")));
    assert!(contents.select("title").exists());
    assert!(contents.select("main a").length() >= chapters().len());
}

/// The links of a page: every href and src, apart from other sites.
fn links(html: &str) -> BTreeSet<String> {
    let attributes = ["href=\"", "src=\""];
    let values = attributes.iter().flat_map(|start| html.split(start).skip(1));
    let links = values.filter_map(|rest| rest.split('"').next()).map(str::to_string);
    links.filter(|link| !["http:", "https:", "data:"].iter().any(|s| link.starts_with(s))).collect()
}

#[test]
fn every_internal_link_leads_somewhere() {
    for name in chapters().iter().map(String::as_str).chain(["index", "print", "toc"]) {
        let html = read(&pages().join(name).with_extension("html"));
        for link in links(&html) {
            assert!(!link.starts_with('/'), "{name}: {link} does not work from a file");
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { format!("{name}.html") } else { file.to_string() };
            let path = pages().join(&target);
            assert!(path.is_file(), "{name}: {link} leads nowhere");
            let id = format!("id=\"{fragment}\"");
            assert!(fragment.is_empty() || read(&path).contains(&id), "{name}: {link}: no such id");
        }
    }
}

/// Nothing a page needs comes from another site, so that it also works without a network.
#[test]
fn no_page_loads_anything_from_elsewhere() {
    for name in chapters() {
        let html = read(&pages().join(&name).with_extension("html"));
        for tag in ["<script ", "<link ", "<img "] {
            for element in html.split(tag).skip(1) {
                let element = element.split('>').next().unwrap_or_default();
                assert!(!element.contains("//"), "{name}: {tag}{element}");
            }
        }
    }
}

/// The live book's server forbids scripts within pages, and styles of elements.
#[test]
fn no_page_has_a_script_or_a_style_of_its_own() {
    for entry in fs::read_dir(pages()).expect("the pages are in a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "html") {
            continue;
        }
        let page = Document::from(read(&path));
        let inline = page.select("script:not([src])").length();
        assert_eq!(inline, 0, "{}", path.display());
        for element in page.select("*").iter() {
            let handlers = element.attrs().into_iter().filter(|it| it.name.local.starts_with("on"));
            assert_eq!(handlers.count(), 0, "{}: {}", path.display(), element.html());
        }
        for script in page.select("script").iter() {
            let file = script.attr("src").expect("a file");
            assert!(pages().join(&*file).is_file(), "{}: {file}", path.display());
        }
    }
}

/// The search index is a script, because a page of `file://` may not fetch anything else.
#[test]
fn the_search_knows_every_chapter() {
    let entries = fs::read_dir(pages()).expect("the pages are in a folder");
    let names = entries.map(|entry| entry.expect("an entry").path());
    let mut indexes = names.filter(|path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with("searchindex") && name.ends_with(".js")
    });
    let index = read(&indexes.next().expect("there is a search index"));
    for name in chapters() {
        assert!(index.contains(&format!("{name}.html#")), "the search does not know {name}");
    }
}

#[test]
fn an_include_that_mdbook_only_logs_is_an_error() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken");
    fs::create_dir_all(folder.join("src")).expect("a folder for a broken book");
    fs::write(folder.join("book.toml"), "[book]\ntitle = \"broken\"\n").expect("book.toml");
    fs::write(folder.join("src/SUMMARY.md"), "- [One](one.md)\n").expect("SUMMARY.md");
    fs::write(folder.join("src/one.md"), "# One\n\n{{#include no-such.rs}}\n").expect("one.md");
    let error = book_reader::build(&folder, None).expect_err("the include leads nowhere");
    assert!(error.to_string().contains("no-such.rs"), "{error}");
}

#[test]
fn a_wrong_command_exits_2() {
    let wrong = Command::new(env!("CARGO_BIN_EXE_book")).arg("biuld").output();
    assert_eq!(wrong.expect("the program starts").status.code(), Some(2));
}

/// What comes between two marks, each time.
fn between<'text>(text: &'text str, start: &str, end: &'text str) -> Vec<&'text str> {
    let parts = text.split(start).skip(1);
    parts.map(|part| part.split_once(end).map_or(part, |(inside, _)| inside)).collect()
}

/// The script takes the first list for the options, and the number for the right one.
#[test]
fn every_question_has_one_right_option_where_the_script_looks_for_it() {
    let mut seen = 0;
    for name in chapters() {
        let chapter = read(&book().join("src").join(&name).with_extension("md"));
        let asked = questions(&name, &chapter).unwrap_or_else(|fault| panic!("{fault}"));
        let html = read(&pages().join(&name).with_extension("html"));
        let shown = between(&html, "<section class=\"question\"", "</section>");
        assert_eq!(shown.len(), asked.len(), "{name}");
        for (question, section) in asked.iter().zip(shown) {
            let title = &question.title;
            let right = between(section, " data-right=\"", "\">");
            let right: usize = right[0].parse().expect("a number");
            let (options, answer) = section.split_once("<details>").expect("a folded answer");
            let options = between(options, "<li>", "</li>");
            let whys = between(answer, "<li>", "</li>");
            assert_eq!(options.len(), question.options.len(), "{name}: {title}");
            assert_eq!(whys.len(), options.len(), "{name}: {title}");
            let marked = |why: &&str| why.starts_with("<strong>Right.</strong> ");
            assert_eq!(whys.iter().filter(|why| marked(why)).count(), 1, "{name}: {title}");
            assert!(marked(&whys[right - 1]), "{name}: {title}: {right}");
            assert!(!section.contains("<!--"), "{name}: {title}: a comment tells");
            assert!(section.contains("<h3 id=\""), "{name}: {title}: the group has no name");
            seen += 1;
        }
        let ids: Vec<_> = (1..=asked.len()).map(|number| format!("{name}/{number}")).collect();
        assert_eq!(between(&html, " data-question=\"", "\""), ids);
        let files = between(&html, "\"theme/questions-", "\"");
        let kinds: Vec<_> = files.iter().filter_map(|file| file.rsplit('.').next()).collect();
        assert_eq!(kinds, ["css", "js"], "{name}: style and script");
    }
    assert!(seen > 0, "the book asks something");
}

/// A transcript's first line is the command, and the mark must ask for the same.
#[test]
fn every_transcript_of_a_run_is_marked_with_its_run() {
    let mut seen = 0;
    for name in chapters() {
        let html = read(&pages().join(&name).with_extension("html"));
        let command = "role=\"region\">$ cargo run --bin ";
        let marked = between(&html, "<div class=\"run\" ", "</div>");
        for block in &marked {
            let lesson = between(block, "data-lesson=\"", "\"")[0];
            let words = match between(block, "data-run=\"", "\"")[0] {
                "plain" => lesson.to_string(),
                run => format!("{lesson} -- --{run}"),
            };
            assert_eq!(between(block, command, "\n"), [words], "{name}");
            assert!(block.trim_end().ends_with("</pre>"), "{name}: {block}");
        }
        assert_eq!(marked.len(), between(&html, command, "\n").len(), "{name}");
        seen += marked.len();
    }
    assert!(seen > 90, "{seen}");
}

#[test]
fn every_step_is_marked_with_its_name() {
    for name in chapters() {
        let chapter = read(&book().join("src").join(&name).with_extension("md"));
        let included = between(&chapter, "{{#include your-turn.md:", "}}");
        let own = between(&chapter, "<!-- ANCHOR: ", " -->");
        let html = read(&pages().join(&name).with_extension("html"));
        let marked = between(&html, "<div class=\"turn\" data-step=\"", "</div>");
        assert_eq!(marked.len(), included.len() + own.len(), "{name}");
        for (block, step) in marked.iter().zip(included.iter().chain(&own)) {
            let number = Step::find(step).unwrap_or_else(|| panic!("{name}: {step}")).number();
            let heading = format!("{step}\">\n<h3 id=\"{number}-{step}-");
            assert!(block.starts_with(&heading), "{name}: {block}");
            assert!(block.trim_end().ends_with("</details>"), "{name}: {block}");
        }
    }
}
