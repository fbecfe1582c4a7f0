//! A map as a picture for a page: boxes in boxes, tall rather than wide, so that a small screen can
//! show it. Letters and lines have the colour of the text around it. Kinds differ by what they are
//! called, and by the line around them.

use std::fmt::Write as _;

use super::nest::{Nest, Row};
use super::words;
use super::{Map, Moment};
use crate::text::wrap;

const WIDTH: usize = 340;
/// From one line of text to the next, in pixels. The letters are 13 high, and about 7 wide.
const LINE: usize = 18;
const LETTER: usize = 7;
/// What a box leaves free around what is in it: left, right, and above.
const LEFT: usize = 10;
const RIGHT: usize = 4;
const GAP: usize = 6;

const BOLD: &str = "<tspan font-weight=\"bold\">";

/// An `svg` element without blank lines: in Markdown one would be its end.
pub(super) fn draw(map: &Map) -> String {
    let mut picture = Picture { map, shapes: String::new(), y: 1 };
    let host = Place { x: 1, width: WIDTH - 2, depth: 0 };
    picture.line(host, &format!("{BOLD}The host</tspan>"));
    if let Some(shared) = words::shared_by_all(&map.host) {
        let (place, top) = (host.inside(), picture.y + GAP);
        picture.y = top;
        picture.text(place, &shared);
        picture.frame(place, top, "fill=\"none\" stroke-dasharray=\"1 3\"");
    }
    picture.members(&map.host, None, host);
    picture.frame(host, 1, "fill=\"none\"");
    picture.texts(host, words::unseen(map.unseen));
    let mut name = "processes";
    if let Some(Moment { lesson, observations, .. }) = &map.moment {
        picture.text(host, &format!("{lesson}, after {observations} observations"));
        name = lesson;
    }
    let (height, shapes) = (picture.y + GAP, picture.shapes);
    let words = super::text::draw(map, usize::MAX);
    let words: Vec<_> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"map-{name}\" aria-describedby=\"map-{name}-words\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"currentColor\">\n\
         <title id=\"map-{name}\">{name}: who is in which namespace</title>\n\
         <desc id=\"map-{name}-words\">{}</desc>\n{shapes}</svg>\n",
        escape(&words.join("\n"))
    )
}

/// Where a box is drawn, and in how many others it is.
#[derive(Clone, Copy)]
struct Place {
    x: usize,
    width: usize,
    depth: usize,
}

impl Place {
    fn inside(self) -> Self {
        let Self { x, width, depth } = self;
        Self { x: x + LEFT, width: width - LEFT - RIGHT, depth: depth + 1 }
    }
}

struct Picture<'map> {
    map: &'map Map,
    shapes: String,
    /// Where the next thing begins.
    y: usize,
}

impl Picture<'_> {
    /// The processes of a box, then the boxes in it.
    fn members(&mut self, nest: &Nest, user: Option<&str>, around: Place) {
        for row in nest.rows() {
            self.process(&row, around.inside());
        }
        for inner in &nest.inner {
            self.nest(inner, user, around.inside());
        }
    }

    fn nest(&mut self, nest: &Nest, user: Option<&str>, place: Place) {
        self.y += GAP;
        let top = self.y;
        for head in words::heads(nest, user, &self.map.relations) {
            let kind = format!("{BOLD}{}</tspan>", head.kind);
            let letters = head.kind.len() + 1 + head.name.len();
            // Half of them are bold, and wider than others.
            if letters * (LETTER + 1) + RIGHT > place.width - LEFT {
                self.line(place, &kind);
                self.line(place, &head.name);
            } else {
                self.line(place, &format!("{kind} {}", head.name));
            }
            self.text(place, &head.meaning);
        }
        if place.depth == 1 {
            self.texts(place, words::shared_here(nest, &self.map.host));
        }
        self.members(nest, words::own_user(nest, user), place);
        let holds = |kind| nest.namespaces.iter().any(|name| name.starts_with(kind));
        let line = match () {
            () if holds("pid:") => "fill=\"none\" stroke-width=\"3\"",
            () if holds("user:") => "fill=\"none\" stroke-dasharray=\"7 4\"",
            () => "fill=\"none\"",
        };
        self.frame(place, top, line);
    }

    fn process(&mut self, row: &Row, place: Place) {
        self.y += GAP;
        let top = self.y;
        self.line(place, &format!("{BOLD}{}</tspan>", escape(&words::name(row))));
        // Not broken where their numbers are long: a picture has the same lines in every run.
        self.line(place, &words::pids(row));
        self.line(place, &words::uids(row.process));
        self.frame(place, top, "fill-opacity=\".1\"");
    }

    /// Lines of text in a box.
    fn text(&mut self, place: Place, text: &str) {
        let letters = place.inside().width / LETTER;
        wrap("", text, letters).lines().for_each(|line| self.line(place, &escape(line)));
    }

    fn line(&mut self, place: Place, svg: &str) {
        self.y += LINE;
        let (x, y) = (place.inside().x, self.y);
        // A String takes everything.
        let _ = writeln!(self.shapes, "<text x=\"{x}\" y=\"{y}\">{svg}</text>");
    }

    fn texts(&mut self, place: Place, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.text(place, &text));
    }

    /// The line around all that was drawn from `top` on.
    fn frame(&mut self, place: Place, top: usize, line: &str) {
        self.y += GAP;
        let Place { x, width, .. } = place;
        let height = self.y - top;
        let _ = writeln!(
            self.shapes,
            "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"6\" \
             stroke=\"currentColor\" {line}/>"
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
