//! What the pages need beyond what mdBook writes: to be read by keyboard and by screen reader, and
//! to have no script of their own, so that the server may forbid all scripts within pages.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use dom_query::{Document, Selection};

/// Changes every page in this folder.
pub fn finish(folder: &Path) -> Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "html") {
            let name = || path.display().to_string();
            let page = Document::from(fs::read_to_string(&path).with_context(name)?);
            move_scripts(&page, folder)?;
            name_landmarks(&page);
            free_keys(&page);
            show_contents(&page);
            keep_options(&page);
            // All outputs of the book in one page would be too many landmarks to be of use.
            let is_print = path.file_stem().is_some_and(|name| name == "print");
            name_blocks(&page, if is_print { "group" } else { "region" });
            fs::write(&path, &*page.html()).with_context(name)?;
        }
    }
    Ok(())
}

/// Writes each script that stands in the page to a file named for its content, so that pages share
/// it.
fn move_scripts(page: &Document, folder: &Path) -> Result<()> {
    for script in page.select("script:not([src])").iter() {
        let text = script.text();
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        let name = format!("script-{:08x}.js", hasher.finish() as u32);
        fs::write(folder.join(&name), text.as_bytes()).context(name.clone())?;
        script.set_text("");
        script.set_attr("src", &name);
    }
    Ok(())
}

/// The regions of a page, each of which has a name of its own.
fn name_landmarks(page: &Document) {
    page.select("body:has(main)")
        .prepend_html("<a class=\"skip\" href=\"#main\">Skip to the text</a>");
    set(&page.select("main"), &[("id", "main"), ("tabindex", "-1")]);
    page.select("#mdbook-menu-bar").rename("header");
    // The book's title is on every page. The one heading of the first level is the chapter's.
    page.select("h1.menu-title").rename("p");
    page.select("#mdbook-search-wrapper").set_attr("role", "search");
    set(
        &page.select("#mdbook-searchbar"),
        &[("aria-label", "Search this book"), ("aria-describedby", "mdbook-searchresults-header")],
    );
    page.select("#mdbook-searchresults-header").set_attr("role", "status");
    page.select(".nav-wrapper").set_attr("aria-label", "Chapters before and after");
    page.select(".nav-wide-wrapper")
        .set_attr("aria-label", "Chapters before and after, at the sides");
    page.select(".nav-wrapper [style]").remove();
}

/// The table of contents opens by a button, and what names mdBook's single keys goes: see
/// `head.hbs` and `page.js` of the theme.
fn free_keys(page: &Document) {
    let toggle = page.select("#mdbook-sidebar-toggle");
    toggle.rename("button");
    toggle.remove_attr("for");
    toggle.set_attr("type", "button");
    page.select("#mdbook-help-container").remove();
    page.select("[aria-keyshortcuts]").remove_attr("aria-keyshortcuts");
    page.select("#mdbook-search-toggle").set_attr("title", "Search");
}

/// Without scripts mdBook has the table of contents in a frame, which the server does not allow, in a
/// bar that only a script opens here. So it is a page of its own then.
fn show_contents(page: &Document) {
    page.select("#mdbook-sidebar noscript").remove();
    let link = "<noscript><p><a href=\"toc.html\">Table of contents</a></p></noscript>";
    page.select("#mdbook-content > main").prepend_html(link);
    let contents = page.select("body.sidebar-iframe-inner");
    if contents.exists() {
        page.select("head").append_html("<title>Table of contents</title>");
        contents.remove_class("sidebar-iframe-inner");
        let text = format!("<main><h1>Table of contents</h1>{}</main>", contents.inner_html());
        contents.set_html(format!("<div class=\"content\">{text}</div>"));
    }
}

/// A browser may begin a line behind a hyphen, also behind the first of `--step`.
fn keep_options(page: &Document) {
    for code in page.select("main :not(pre) > code").iter() {
        let html = code.inner_html();
        let words = html.split(' ').map(|word| match word.starts_with('-') {
            true => format!("<span class=\"option\">{word}</span>"),
            false => word.to_string(),
        });
        code.set_html(words.collect::<Vec<_>>().join(" "));
    }
}

/// What is wider than the page scrolls, so the keyboard has to reach it, and it needs a name.
fn name_blocks(page: &Document, output: &str) {
    for block in page.select("main pre > code").iter() {
        let text = block.text();
        let command = text.lines().next().and_then(|line| line.strip_prefix("$ "));
        let (role, name) = match command {
            _ if text.lines().all(|line| line.starts_with("$ ")) => ("group", "Commands".into()),
            Some(command) => (output, format!("Output of {command}")),
            None if block.has_class("language-rust") => ("group", "Source".into()),
            None => ("group", "Text".into()),
        };
        set(&block, &[("aria-label", &name), ("tabindex", "0"), ("role", role)]);
    }
    // A table's empty corner is the heading of nothing.
    page.select("th:empty").rename("td");
    let tables = page.select("main .table-wrapper");
    set(&tables, &[("tabindex", "0"), ("role", "group"), ("aria-label", "Table")]);
}

fn set(elements: &Selection, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        elements.set_attr(name, value);
    }
}
