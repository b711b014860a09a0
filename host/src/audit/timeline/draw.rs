//! Draws the timeline as one SVG file, without scripts, fonts or anything else from other files.
//!
//! From top to bottom: the slots in use against the limit; a lane for each slot with its holders; a row for each target
//! with its actions. With many targets, rows become thin and some have no label; a tooltip has the name.

use svg::Document;
use svg::node::element::{Group, Line, Path, Polyline, Rectangle, Style, Text, Title};

use crate::audit::timeline::axis::{Axis, clock};
use crate::audit::timeline::record::{Kind, Piece, Timeline};
use lockkeeper_locks::terminal;

const WIDTH: f64 = 1280.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 40.0;
const TITLE: f64 = 64.0;
const LEGEND: f64 = 28.0;
const USAGE: f64 = 120.0;
const GAP: f64 = 34.0;

/// Largest height of a lane or row; with many of them they are thinner.
const MOST_HIGH: f64 = 18.0;
const LEAST_HIGH: f64 = 3.0;
/// Height that all lanes, or all rows, fill together.
const ROOM: f64 = 1200.0;
/// Smallest height with room for a label.
const NAME: f64 = 11.0;
/// Characters of a name beside a row.
const MOST_NAME: usize = 20;
/// Approximate width of a character.
const LETTER: f64 = 6.2;

const STYLE: &str = "text{font:11px sans-serif;fill:#222}.title{font-size:18px;font-weight:bold}.head{font-size:13px;\
    font-weight:bold}.dim{fill:#666}.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e4e4e4}\
    .limit{stroke:#b00020;stroke-width:1.5;stroke-dasharray:6 3}.mark{stroke:#333;stroke-dasharray:2 3}\
    .used{fill:#cfe3f5;stroke:#2b6ca3;stroke-width:1.5}.over{fill:#b00020}.Waiting{fill:#e3e3e3}.Queueing{fill:#b9b9b9}\
    .Holding{fill:#bcd6ee}.Running{fill:#2b6ca3}.Succeeded{fill:#4a9d62}.RolledBack{fill:#9a6a14}.Failed{fill:#c62828}.Unknown{fill:#7b3fa0}\
    .forced{fill:none;stroke:#e08600;stroke-width:2.5}.hold{stroke:#fff;stroke-width:.5}.sign{font-weight:bold;fill:#fff;\
    text-anchor:middle}.in{fill:#fff}.frame{fill:none;stroke:#999}";

/// Draws a run as SVG.
#[must_use]
pub fn svg(timeline: &Timeline) -> String {
    let lanes =
        timeline.holds.iter().map(|hold| hold.lane + 1).max().unwrap_or(0).max(timeline.slots.min(1000) as usize);
    let (lane_high, row_high) = (high(lanes), high(timeline.rows.len()));
    let usage = TITLE + LEGEND + GAP;
    let lanes_top = usage + USAGE + GAP + 24.0;
    let rows_top = lanes_top + lanes as f64 * lane_high + GAP;
    let bottom = rows_top + timeline.rows.len() as f64 * row_high;
    let height = bottom + GAP;
    // A run without duration is drawn as one of a second.
    let to = timeline.to.max(timeline.from + 1000);
    let axis = Axis { from: timeline.from, to, left: LEFT, width: WIDTH - LEFT - RIGHT };
    let page = Page { timeline, axis, bottom };
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .add(Title::new(format!("Run {}", shown(&timeline.run))))
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#fff"))
        .add(page.title())
        .add(page.legend())
        .add(page.times(usage))
        .add(page.usage(usage))
        .add(page.lanes(lanes_top, lane_high, lanes))
        .add(page.rows(rows_top, row_high))
        .add(page.marks(usage))
        .to_string()
}

struct Page<'a> {
    timeline: &'a Timeline,
    axis: Axis,
    bottom: f64,
}

impl Page<'_> {
    fn title(&self) -> Group {
        let Timeline { run, job, from, to, end, rows, slots, .. } = self.timeline;
        let end = end.as_deref().unwrap_or("unfinished");
        let day = |at: &u64| clock(*at, "%F %T");
        let line = format!(
            "job {}, {} targets, {slots} slots; {} to {} UTC; {end}",
            shown(job),
            rows.len(),
            day(from),
            day(to)
        );
        Group::new().add(text(24.0, 30.0, "title", &format!("Run {}", shown(run)))).add(text(24.0, 52.0, "dim", &line))
    }

    fn legend(&self) -> Group {
        let mut group = Group::new().set("id", "legend");
        let mut x = 24.0;
        for kind in [
            Kind::Waiting,
            Kind::Queueing,
            Kind::Holding,
            Kind::Running,
            Kind::Succeeded,
            Kind::RolledBack,
            Kind::Failed,
            Kind::Unknown,
        ] {
            group = group.add(rectangle(x, TITLE + 4.0, 16.0, 12.0, class(kind)));
            if let Some(sign) = sign(kind) {
                group = group.add(text(x + 8.0, TITLE + 14.0, "sign", sign));
            }
            group = group.add(text(x + 21.0, TITLE + 14.0, "", word(kind)));
            x += 36.0 + word(kind).len() as f64 * LETTER;
        }
        group = group.add(rectangle(x, TITLE + 4.0, 16.0, 12.0, "forced")).add(text(
            x + 21.0,
            TITLE + 14.0,
            "",
            "slot taken by force",
        ));
        x += 32.0 + 19.0 * LETTER;
        group = group.add(line(x, TITLE + 10.0, x + 20.0, TITLE + 10.0, "limit")).add(text(
            x + 25.0,
            TITLE + 14.0,
            "",
            "the limit",
        ));
        x += 36.0 + 9.0 * LETTER;
        group.add(line(x, TITLE + 2.0, x, TITLE + 18.0, "mark")).add(text(
            x + 5.0,
            TITLE + 14.0,
            "",
            "a wave, runner epoch or pause",
        ))
    }

    /// Vertical lines at the labelled times.
    fn times(&self, top: f64) -> Group {
        let mut group = Group::new().set("id", "times");
        for (at, name) in self.axis.ticks() {
            let x = self.axis.x(at);
            group = group
                .add(line(x, top, x, self.bottom, "grid"))
                .add(text(x, self.bottom + 15.0, "dim middle", &name))
                .add(text(x, top + USAGE + 15.0, "dim middle", &name));
        }
        group.add(text(24.0, self.bottom + 15.0, "dim", "UTC")).add(text(
            LEFT - 8.0,
            top + USAGE + 15.0,
            "dim right",
            "UTC",
        ))
    }

    /// Slots in use against the limit.
    fn usage(&self, top: f64) -> Group {
        let (steps, limit) = (self.timeline.in_use(), self.timeline.slots);
        let most = steps.iter().map(|(_, used)| *used).max().unwrap_or(0).max(limit).max(1);
        let y = |used: u32| round(top + USAGE - USAGE * f64::from(used) / f64::from(most) * 0.92);
        let mut points = format!("M{},{}", self.axis.x(self.axis.from), y(0));
        for (at, used) in &steps {
            points.push_str(&format!("H{}V{}", self.axis.x(*at), y(*used)));
        }
        points.push_str(&format!("H{}V{}Z", self.axis.x(self.timeline.to), y(0)));
        let mut group = Group::new()
            .set("id", "usage")
            .add(text(24.0, top - 8.0, "head", "Slots in use"))
            .add(Path::new().set("class", "used").set("d", points));
        // The part above the limit, which force can cause.
        for (step, next) in steps.iter().zip(steps.iter().skip(1).map(|next| next.0).chain([self.timeline.to])) {
            if step.1 > limit {
                let (x, width) = self.span(step.0, next);
                group = group.add(rectangle(x, y(step.1), width, y(limit) - y(step.1), "over"));
            }
        }
        group = group
            .add(line(LEFT, y(limit), WIDTH - RIGHT, y(limit), "limit"))
            .add(text(LEFT - 8.0, y(limit) + 4.0, "right", &format!("limit {limit}")))
            .add(text(LEFT - 8.0, y(0) + 4.0, "dim right", "0"))
            .add(line(LEFT, y(0), WIDTH - RIGHT, y(0), "frame"));
        group
    }

    /// A lane for each slot with its holders.
    fn lanes(&self, top: f64, high: f64, lanes: usize) -> Group {
        let mut group = Group::new().set("id", "lanes").add(text(24.0, top - 8.0, "head", "Slot holders"));
        for lane in (0..lanes).filter(|lane| is_named(*lane, high)) {
            let above = if lane >= self.timeline.slots as usize { ", above the limit" } else { "" };
            let y = top + (lane as f64 + 1.0) * high - high / 2.0 + 4.0;
            group = group.add(text(LEFT - 8.0, y, "dim right", &format!("slot {}{above}", lane + 1)));
        }
        for hold in &self.timeline.holds {
            let row = &self.timeline.rows[hold.row];
            let (x, width) = self.span(hold.from, hold.to);
            let y = top + hold.lane as f64 * high;
            let acted =
                row.pieces.iter().filter(|piece| piece.from < hold.to.max(hold.from + 1) && piece.to > hold.from);
            let kind =
                acted.map(|piece| piece.kind).filter(|kind| *kind > Kind::Queueing).max().unwrap_or(Kind::Holding);
            let forced = hold.forced.as_ref().map_or(String::new(), |why| format!(", forced: {why}"));
            let open = if hold.open { ", still held" } else { "" };
            let about = format!("{}: {} to {}{open}{forced}", shown(&row.target), at(hold.from), at(hold.to));
            let mut one = Group::new().set("class", "lane").add(Title::new(shown(&about))).add(rectangle(
                x,
                y + 1.0,
                width,
                high - 2.0,
                &format!("hold {}", class(kind)),
            ));
            if hold.forced.is_some() {
                one = one.add(rectangle(x, y + 1.0, width, high - 2.0, "forced"));
            }
            let name = match sign(kind) {
                Some(sign) => format!("{sign} {}", shown(&row.target)),
                None => shown(&row.target),
            };
            if high >= NAME && name.chars().count() as f64 * LETTER + 8.0 < width {
                let class = if kind == Kind::Holding { "" } else { "in" };
                one = one.add(text(x + 4.0, y + high / 2.0 + 4.0, class, &name));
            }
            group = group.add(one);
        }
        let over = self.timeline.slots as usize;
        if lanes > over {
            let y = top + over as f64 * high;
            group = group.add(line(LEFT, y, WIDTH - RIGHT, y, "limit"));
        }
        group
    }

    /// A row for each target with its actions.
    fn rows(&self, top: f64, high: f64) -> Group {
        let mut group = Group::new().set("id", "targets").add(text(24.0, top - 8.0, "head", "Targets"));
        for (number, row) in self.timeline.rows.iter().enumerate() {
            let y = top + number as f64 * high;
            let mut one = Group::new().set("class", "target");
            let name: String = shown(&row.target).chars().take(MOST_NAME).collect();
            if is_named(number, high) {
                one = one.add(text(LEFT - 8.0, y + high / 2.0 + 4.0, "right", &name));
            }
            for piece in &row.pieces {
                one = one.add(self.piece(&row.target, piece, y, high));
            }
            if let Some(skipped) = row.skipped {
                one = one.add(text(self.axis.x(skipped) + 3.0, y + high / 2.0 + 4.0, "dim", "skipped"));
            }
            group = group.add(one);
        }
        // Forced holds are marked here, too.
        for hold in self.timeline.holds.iter().filter(|hold| hold.forced.is_some()) {
            let (x, width) = self.span(hold.from, hold.to);
            group = group.add(rectangle(x, top + hold.row as f64 * high + 0.5, width, high - 1.0, "forced"));
        }
        group
    }

    fn piece(&self, target: &str, piece: &Piece, y: f64, high: f64) -> Group {
        let (x, width) = self.span(piece.from, piece.to);
        let note = if piece.note.is_empty() { String::new() } else { format!(", {}", piece.note) };
        let about = format!("{target}: {} {} to {}{note}", word(piece.kind), at(piece.from), at(piece.to));
        let mut group = Group::new().add(Title::new(shown(&about))).add(rectangle(
            x,
            y + 0.5,
            width,
            high - 1.0,
            class(piece.kind),
        ));
        if let Some(sign) = sign(piece.kind).filter(|_| high >= NAME) {
            group = group.add(text((x + width / 2.0).max(x + 4.0), y + high / 2.0 + 4.0, "sign", sign));
        }
        group
    }

    fn marks(&self, top: f64) -> Group {
        let mut group = Group::new().set("id", "marks");
        for (number, mark) in self.timeline.marks.iter().enumerate() {
            let x = self.axis.x(mark.at);
            let line =
                Polyline::new().set("class", "mark").set("points", format!("{x},{} {x},{}", top - 2.0, self.bottom));
            // Neighbouring labels do not overlap.
            let y = top - 4.0 - 12.0 * (number % 2) as f64;
            group = group.add(line).add(text(x + 3.0, y, "", &shown(&mark.text)));
        }
        group
    }

    /// Start and width of a period; wide enough to be visible.
    fn span(&self, from: u64, to: u64) -> (f64, f64) {
        let x = self.axis.x(from);
        (x, round((self.axis.x(to) - x).max(1.0)))
    }
}

fn high(number: usize) -> f64 {
    round((ROOM / number.max(1) as f64).clamp(LEAST_HIGH, MOST_HIGH))
}

/// Whether a row has a label: if rows are thinner than a label, one in several.
fn is_named(number: usize, high: f64) -> bool {
    let each = (NAME / high).ceil() as usize;
    number.is_multiple_of(each.max(1))
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn at(ms: u64) -> String {
    clock(ms, "%T%.3f")
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Waiting => "Waiting",
        Kind::Queueing => "Queueing",
        Kind::Holding => "Holding",
        Kind::Succeeded => "Succeeded",
        Kind::RolledBack => "RolledBack",
        Kind::Failed => "Failed",
        Kind::Unknown => "Unknown",
        Kind::Running => "Running",
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Waiting => "waiting",
        Kind::Queueing => "queueing for a slot",
        Kind::Holding => "slot held, not running",
        Kind::Succeeded => "succeeded",
        Kind::RolledBack => "rolled back",
        Kind::Failed => "failed",
        Kind::Unknown => "unknown",
        Kind::Running => "running",
    }
}

/// A sign, so that colour alone carries no meaning.
fn sign(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Failed => Some("×"),
        Kind::RolledBack => Some("←"),
        Kind::Unknown => Some("?"),
        _ => None,
    }
}

/// Text that XML can hold and that is shown literally; the library escapes the rest.
fn shown(text: &str) -> String {
    terminal::value(text)
}

fn text(x: f64, y: f64, class: &str, content: &str) -> Text {
    let text = Text::new(shown(content)).set("x", round(x)).set("y", round(y));
    if class.is_empty() { text } else { text.set("class", class) }
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, class: &str) -> Line {
    let line = Line::new().set("x1", round(x1)).set("y1", round(y1)).set("x2", round(x2)).set("y2", round(y2));
    line.set("class", class)
}

fn rectangle(x: f64, y: f64, width: f64, height: f64, class: &str) -> Rectangle {
    let rectangle = Rectangle::new().set("x", round(x)).set("y", round(y)).set("width", round(width));
    rectangle.set("height", round(height)).set("class", class)
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;
    use serde_json::{Value, json};

    use super::super::record::Recorder;
    use super::*;
    use crate::audit::history::Page;
    use crate::rollout::journal::Header;
    use crate::rollout::model::Stamped;

    /// 2026-11-23, 09:00 UTC.
    const START: u64 = 1_795_424_400_000;

    fn drawn(slots: u32, targets: &[&str], waves: &Value, events: &[(u64, Value)]) -> Timeline {
        let header = json!({
            "journal": 2, "job": "j & <k>", "run": "r", "started": START, "job-digest": "", "policy": "p",
            "policy-digest": "", "contract": "", "host": "", "grants": [], "settings": {}, "runner-epoch": 1, "sequence": 0,
            "limits": { "slots": slots }, "targets": targets, "waves": waves
        });
        let header: Header = serde_json::from_value(header).unwrap();
        let mut recorder = Recorder::new(&header);
        recorder.follow(&Page::Segment(&header));
        for (at, event) in events {
            let mut event = event.clone();
            event["at"] = json!(START + at);
            let stamped: Stamped = serde_json::from_value(event).unwrap();
            recorder.follow(&Page::Event(stamped));
        }
        recorder.finish(None)
    }

    fn lane(target: &str, from: u64, to: u64, events: &mut Vec<(u64, Value)>) {
        let about = |event: &str| json!({ "event": event, "target": target });
        let leased = json!({ "event": "leased", "target": target, "held": 1, "slots": 2, "fence": 7, "again": false });
        let started = json!({ "event": "started", "target": target, "attempt": 1, "fence": 7 });
        let succeeded = json!({ "event": "succeeded", "target": target, "took-ms": to - from });
        events.extend([
            (from, about("queued")),
            (from, leased),
            (from, started),
            (to, succeeded),
            (to, about("released")),
        ]);
    }

    /// Two slots, two waves: `b` fails, `d` goes above the limit by force, `e` never ends.
    fn small() -> Timeline {
        let mut events = Vec::new();
        lane("a", 1000, 4000, &mut events);
        let failed = json!({
            "event": "failed", "target": "b<&>", "attempt": 1, "ending": "failed", "detail": "it said \"no\"",
            "took-ms": 1500, "output": [], "log": "x"
        });
        let leased = json!({ "event": "leased", "target": "b<&>", "held": 2, "slots": 2, "fence": 8, "again": false });
        events.extend([
            (1000, json!({ "event": "queued", "target": "b<&>" })),
            (1500, leased),
            (1500, json!({ "event": "started", "target": "b<&>", "attempt": 1, "fence": 8 })),
            (3000, failed),
            (3000, json!({ "event": "released", "target": "b<&>" })),
        ]);
        lane("c", 3000, 6000, &mut events);
        let forced =
            json!({ "event": "forced", "target": "d", "broken": [], "code": "urgent", "reason": "a fix", "fence": 9 });
        events.extend([(3500, forced), (5000, json!({ "event": "released", "target": "d" }))]);
        events.push((
            6500,
            json!({ "event": "leased", "target": "e", "held": 1, "slots": 2, "fence": 10, "again": false }),
        ));
        events.push((7000, json!({ "event": "store", "state": "suspended" })));
        events.sort_by_key(|(at, _)| *at);
        let waves = json!([{ "name": "first", "targets": 2 }, { "name": "rest", "targets": 3 }]);
        drawn(2, &["a", "b<&>", "c", "d", "e"], &waves, &events)
    }

    #[test]
    fn a_small_run_is_drawn_completely() {
        let picture = svg(&small());
        let document = Document::parse(&picture).unwrap();
        let with = |class: &str| document.descendants().filter(|node| node.attribute("class") == Some(class)).count();
        // Its lane, its row and the legend.
        assert_eq!(with("forced"), 3, "{picture}");
        assert_eq!(with("lane"), 5);
        assert_eq!(with("Failed"), 2, "the legend and one row");
        assert_eq!(with("over"), 1, "three were in use");
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text().map(str::trim)).collect();
        for text in ["× b<&>", "wave first", "wave rest", "limit 2", "slot 3, above the limit"] {
            assert!(texts.contains(&text), "`{text}` is not there: {texts:?}");
        }
        assert!(texts.iter().any(|text| text.contains("forced: a fix (urgent)")), "{texts:?}");
        assert!(!picture.contains("<script") && !picture.contains("href") && !picture.contains("url("));
        insta::assert_snapshot!(picture);
    }

    #[test]
    fn no_more_slots_are_drawn_at_once_than_the_limit() {
        let targets: Vec<String> = (0..1000).map(|number| format!("web{number:04}")).collect();
        let names: Vec<&str> = targets.iter().map(String::as_str).collect();
        let mut events = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let from = (number / 20) as u64 * 10_000;
            lane(name, from, from + 10_000, &mut events);
        }
        // A release comes before the acquisition that follows it.
        events.sort_by_key(|(at, event)| (*at, event["event"] != "succeeded", event["event"] != "released"));
        let timeline = drawn(20, &names, &json!([]), &events);
        assert_eq!(timeline.in_use().iter().map(|(_, used)| *used).max(), Some(20));
        assert!(timeline.holds.iter().all(|hold| hold.lane < 20));
        let mut lanes: Vec<Vec<(u64, u64)>> = vec![Vec::new(); 20];
        for hold in &timeline.holds {
            lanes[hold.lane].push((hold.from, hold.to));
        }
        for lane in lanes {
            assert!(lane.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{lane:?}");
        }
        let picture = svg(&timeline);
        let document = Document::parse(&picture).unwrap();
        let rows = document.descendants().filter(|node| node.attribute("class") == Some("target")).count();
        assert_eq!(rows, 1000);
        let height: f64 = document.root_element().attribute("height").unwrap().parse().unwrap();
        assert!(height < 6000.0 && picture.len() < 2_000_000, "{height} high, {} bytes", picture.len());
    }

    #[test]
    fn a_run_without_events_is_drawn() {
        let picture = svg(&drawn(3, &["a"], &json!([]), &[]));
        assert!(Document::parse(&picture).is_ok(), "{picture}");
    }
}
