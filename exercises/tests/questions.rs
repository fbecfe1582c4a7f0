//! The questions in the chapters: each is whole, and the accepted run says which option is right.

use std::{env, fs};

use exercises::questions::{Run, questions};
use workbook::contents;

fn read(file: &str) -> String {
    let path = contents::root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is wrong with a lesson's questions.
fn faults(lesson: &str) -> Vec<String> {
    let file = format!("book/src/{lesson}.md");
    let questions = match questions(&file, &read(&file)) {
        Ok(questions) => questions,
        Err(fault) => return vec![fault.to_string()],
    };
    let run = Run::of(&read(&format!("tests/snapshots/{lesson}.snap")));
    let mut faults = Vec::new();
    for question in &questions {
        if let Err(result) = question.right(&run) {
            let seen = question.seen.as_deref().unwrap_or_default();
            let result = result.unwrap_or("not in the accepted run".to_string());
            let title = &question.title;
            faults.push(format!("{file}: {title} ({seen}: {result}) has not one right option"));
        }
    }
    for (kind, is_what) in [("what will happen", true), ("why", false)] {
        if !questions.iter().any(|question| question.seen.is_some() == is_what) {
            faults.push(format!("{file}: no question asks {kind}"));
        }
    }
    faults
}

/// All chapters, or with `LESSON=uts-demo,pid-demo` those that somebody works on.
#[test]
fn every_chapter_asks_what_and_why_and_the_run_says_what_is_right() {
    let wanted = env::var("LESSON").unwrap_or_default();
    let lessons = contents::lessons().expect("SUMMARY.md").into_iter().map(|lesson| lesson.name);
    let lessons = lessons.filter(|name| wanted.is_empty() || wanted.split(',').any(|w| w == name));
    let faults: Vec<_> = lessons.flat_map(|lesson| faults(&lesson)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

const GOOD: &str = "# A chapter

## Predict

### What does f() give?

Somebody calls
f().
<!-- seen: inside f() #2 -->

- 1 <!-- is: 1 -->
- what g() gives,
  outside <!-- is: outside g(*, 0) -->

<details>
<summary>Answer</summary>

- No, and
  why.
- Yes.

</details>

### Why?

It is so.

- because <!-- right -->
- in spite

<details>
<summary>Answer</summary>

- Yes.
- No.

</details>

## After

- no option
";

const RUN: &str = "\
$ cargo run --bin some-demo
some-demo: A title                                  book/src/some-demo.md

outside  g(48212, 0)                                     = 7
inside   f()                                             = 1
inside   f()                                             = 7
inside   name()                                          =

holds  some-1  f() = g().
open   A1     Somebody.
       not checked here for want of somebody

by hand  echo 'inside   h()  = 3'
         inside   h()  = 3
";

#[test]
fn a_question_is_read_whole() {
    let questions = questions("chapter", GOOD).expect("a good chapter");
    assert_eq!(questions.len(), 2);
    let what = &questions[0];
    assert_eq!(
        (&*what.title, &*what.text),
        ("What does f() give?", &["Somebody calls f().".into()][..])
    );
    assert_eq!(what.options[1].text, "what g() gives, outside");
    assert_eq!(what.options[0].why, "No, and why.");
    assert_eq!((what.lines.start, what.lines.end), (4, 22));
    let run = Run::of(RUN);
    assert_eq!(what.right(&run), Ok(1));
    assert_eq!(questions[1].right(&run), Ok(0));
}

#[test]
fn what_the_run_has_not_shown_has_no_right_option() {
    let questions = questions("chapter", GOOD).expect("a good chapter");
    assert_eq!(questions[0].right(&Run::of("")), Err(None));
    let other = RUN.replacen("= 7\ninside   name", "= -1 EPERM\ninside   name", 1);
    assert_eq!(questions[0].right(&Run::of(&other)), Err(Some("-1 EPERM".to_string())));
}

#[test]
fn observations_and_claims_are_found_by_their_names() {
    let run = Run::of(RUN);
    let cases = [
        ("inside f()", Some("1")),
        ("inside f() #2", Some("7")),
        ("inside f() #3", None),
        ("* g(*)", Some("7")),
        ("outside f()", None),
        ("inside name()", Some("")),
        ("claim some-1", Some("holds")),
        ("claim A1", Some("open")),
        ("inside h()", None),
    ];
    for (name, result) in cases {
        assert_eq!(run.result(name), result, "{name}");
    }
}

#[test]
fn a_fault_names_chapter_line_and_what_is_wrong() {
    let cases = [
        ("- in spite\n", "", "chapter, line 30: 1 options, 2 explanations"),
        (
            "- Yes.\n\n</details>\n\n###",
            "\n</details>\n\n###",
            "line 15: 2 options, 1 explanations",
        ),
        (" <!-- right -->", "", "line 24: without seen: exactly one option is right"),
        (" <!-- is: 1 -->", "", "line 5: of what is seen, every option says what it is:"),
        ("seen: ", "sene: ", "line 9: what is \"sene: inside f() #2\"?"),
        ("is: 1", "1", "line 11: what is \"1\"?"),
        ("<summary>Answer</summary>\n\n- No", "\n- No", "line 15: options, <details>"),
        ("## After", "A sentence.\n\n## After", "line 39: text between two questions"),
        ("- because", "```\n$ ls\n```\n\n- because", "no block of code"),
        ("It is so.\n", "", "a question without text"),
    ];
    for (from, to, said) in cases {
        let broken = GOOD.replacen(from, to, 1);
        assert_ne!(broken, GOOD, "{from}");
        let fault = questions("chapter", &broken).expect_err(said).to_string();
        assert!(fault.starts_with("chapter, line ") && fault.contains(said), "{said}: {fault}");
    }
}
