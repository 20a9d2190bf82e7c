//! The picture.

use peerage::PeerId;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    model::{Bar, Entry, Model},
    wrap::wrap,
};
use crate::text::count;

/// From this width on, those who are there have a column of their own.
const WIDE: u16 = 60;
const PEOPLE: u16 = 22;
/// Bars of files that are seen at once, and their columns.
const BARS: usize = 4;
const BAR: usize = 20;
const PROMPT: &str = "> ";

pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    // What was said is more important, where there is little room.
    let bars = model.bars.len().min(BARS).min(usize::from(frame.area().height / 4));
    let [top, middle, files, status, input] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(u16::try_from(bars).unwrap_or(0)),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    // Whoever is alone has something to copy, which a column beside it would get into.
    let people = if top.width >= WIDE && !model.people.is_empty() { PEOPLE } else { 0 };
    let [log, beside] = Layout::horizontal([Constraint::Min(1), Constraint::Length(people)]).areas(middle);
    title(frame, top, model);
    entries(frame, log, model);
    if people > 0 {
        column(frame, beside, model);
    }
    frame.render_widget(Paragraph::new(file_rows(&model.bars, bars, usize::from(files.width))), files);
    bar(frame, status, model);
    typing(frame, input, model);
}

fn title(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let here = model.people.len().saturating_add(1);
    let text = format!(" peerage chat · you are {} · {here} here", model.name);
    frame.render_widget(Paragraph::new(text).style(Style::new().add_modifier(Modifier::REVERSED)), area);
}

fn entries(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    model.page = height.saturating_sub(1).max(1);
    // From the last one up, until the picture is full.
    let wanted = height.saturating_add(model.back);
    let mut rows: Vec<Line<'_>> = Vec::new();
    for entry in model.entries.iter().rev() {
        rows.extend(lines(entry, model.me, width).into_iter().rev());
        if rows.len() >= wanted {
            break;
        }
    }
    // Not further up than to the first line.
    let back = model.back.min(rows.len().saturating_sub(height));
    let mut seen: Vec<Line<'_>> = rows.into_iter().skip(back).take(height).collect();
    seen.reverse();
    let missing = height.saturating_sub(seen.len());
    let mut shown = vec![Line::default(); missing];
    shown.append(&mut seen);
    frame.render_widget(Paragraph::new(shown), area);
    model.back = back;
}

/// The rows of an entry. Those after the first begin below its text.
fn lines(entry: &Entry, me: PeerId, width: usize) -> Vec<Line<'static>> {
    let (head, text, style): (Vec<Span<'static>>, &str, Style) = match entry {
        Entry::Said { time, peer, name, text } => {
            let name = Span::styled(format!("{name}: "), Style::new().fg(colour(*peer)).bold());
            let style = if *peer == me { Style::new().dim() } else { Style::new() };
            (vec![format!("{time} ").dim(), name], text, style)
        }
        Entry::Happened { time, text } => (vec![format!("{time} ").dim()], text, Style::new().italic().dim()),
        Entry::Note { text } => (Vec::new(), text, Style::new().dim()),
        Entry::Command { text } => return command(text, width),
    };
    let indent: usize = head.iter().map(Span::width).sum();
    // In a narrow terminal a long name may leave no room beside it.
    let (indent, below) = if indent.saturating_mul(2) > width { (0, true) } else { (indent, false) };
    let pieces = wrap(text, width.saturating_sub(indent));
    let mut rows = Vec::new();
    let mut head = Some(head);
    if below {
        rows.push(Line::from(head.take().unwrap_or_default()));
    }
    for piece in pieces {
        let mut spans = head.take().unwrap_or_else(|| vec![" ".repeat(indent).into()]);
        spans.push(Span::styled(piece.to_owned(), style));
        rows.push(Line::from(spans));
    }
    rows
}

/// A shell takes a line that ends with a backslash and the next one for one line.
fn command(text: &str, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(1).max(1);
    let mut rows: Vec<String> = Vec::new();
    for c in text.chars() {
        match rows.last_mut() {
            Some(row) if row.width().saturating_add(c.width().unwrap_or(0)) <= room => row.push(c),
            _ => rows.push(c.to_string()),
        }
    }
    let last = rows.len().saturating_sub(1);
    for row in rows.iter_mut().take(last) {
        row.push('\\');
    }
    rows.into_iter().map(|row| Line::from(row.bold())).collect()
}

fn column(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = Block::new().borders(Borders::LEFT).border_style(Style::new().dim());
    let inner = block.inner(area);
    let me = Line::from(vec![
        Span::styled(format!(" {}", model.name), Style::new().fg(colour(model.me)).bold()),
        " (you)".dim(),
    ]);
    let others = model.people.iter().map(|(peer, name)| {
        Line::from(Span::styled(format!(" {name}"), Style::new().fg(colour(*peer)).bold()))
    });
    let mut rows: Vec<Line<'_>> = std::iter::once(me).chain(others).collect();
    let room = usize::from(inner.height);
    if rows.len() > room {
        let hidden = rows.len().saturating_sub(room.saturating_sub(1));
        rows.truncate(room.saturating_sub(1));
        rows.push(Line::from(format!(" and {hidden} more").dim()));
    }
    frame.render_widget(block, area);
    frame.render_widget(Paragraph::new(rows), inner);
}

/// A row for each file that moves; the last one for all that have none.
fn file_rows(bars: &[Bar], rows: usize, width: usize) -> Vec<Line<'static>> {
    let shown = if bars.len() > rows { rows.saturating_sub(1) } else { rows };
    let mut lines: Vec<Line<'static>> = bars.iter().take(shown).map(|bar| file_row(bar, width)).collect();
    if shown < rows {
        let hidden = bars.len().saturating_sub(shown);
        lines.push(Line::from(format!(" and {hidden} more; /files lists them").dim()));
    }
    lines
}

fn file_row(bar: &Bar, width: usize) -> Line<'static> {
    let amount = format!(" {} ", bar.amount);
    let done = usize::try_from(bar.percent).unwrap_or(100).min(100).saturating_mul(BAR) / 100;
    // The name gives way before the numbers do, and the bar before the name.
    let room = width.saturating_sub(amount.width()).saturating_sub(1);
    let bar_fits = room >= BAR.saturating_mul(2);
    let room = if bar_fits { room.saturating_sub(BAR).saturating_sub(1) } else { room };
    let mut spans = vec![Span::raw(format!(" {}", shortened(&bar.label, room)))];
    if bar_fits {
        spans.push(Span::styled(format!(" {}", "━".repeat(done)), Style::new().fg(Color::Green)));
        spans.push("─".repeat(BAR.saturating_sub(done)).dim());
    }
    spans.push(amount.into());
    Line::from(spans)
}

/// Its beginning, if there is no room for all of it.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        if shown.width().saturating_add(c.width().unwrap_or(0)) >= width {
            break;
        }
        shown.push(c);
    }
    shown + "…"
}

fn bar(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let text = if model.leaving {
        " Leaving, once everybody has heard everything. Ctrl-C leaves now.".to_owned()
    } else if model.waits {
        " Too much waits to be said already; press Enter again in a moment.".to_owned()
    } else if model.unread > 0 {
        format!(" {} below. Esc goes there.", count(model.unread, "new line"))
    } else if model.offers > 0 {
        let offers = count(model.offers, "file");
        format!(" {offers} offered to you: /accept or /decline, /files lists them")
    } else if model.back > 0 {
        " PgUp PgDn to read, Esc to the end".to_owned()
    } else {
        " Enter says it · PgUp scrolls · Up recalls · Ctrl-D leaves".to_owned()
    };
    frame.render_widget(Paragraph::new(text).dim(), area);
}

fn typing(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let room = usize::from(area.width).saturating_sub(PROMPT.width()).saturating_sub(1);
    // What does not fit goes out of sight at the left, so that the cursor is always seen.
    let before = model.input.before();
    let hidden = before.width().saturating_sub(room);
    let mut skipped = 0_usize;
    let from = before
        .char_indices()
        .find_map(|(at, c)| {
            let here = skipped;
            skipped = skipped.saturating_add(c.width().unwrap_or(0));
            (here >= hidden).then_some(at)
        })
        .unwrap_or(if hidden == 0 { 0 } else { before.len() });
    let shown = model.input.text().get(from..).unwrap_or_default();
    let column = before.get(from..).unwrap_or_default().width().saturating_add(PROMPT.width());
    frame.render_widget(Paragraph::new(Line::from(vec![PROMPT.bold(), shown.into()])), area);
    let column = u16::try_from(column).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
    frame.set_cursor_position(Position::new(area.x.saturating_add(column), area.y));
}

/// The same for the same peer, on every screen.
fn colour(peer: PeerId) -> Color {
    const COLOURS: [Color; 6] =
        [Color::Red, Color::Green, Color::Yellow, Color::Blue, Color::Magenta, Color::Cyan];
    // The last byte of an id is as good as random.
    let seed = usize::from(peer.as_bytes().last().copied().unwrap_or_default());
    COLOURS.get(seed % COLOURS.len()).copied().unwrap_or(Color::Reset)
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyCode;
    use peerage::Keypair;
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn peer(seed: u8) -> PeerId {
        Keypair::from_ed25519_seed([seed; 32]).peer_id()
    }

    fn said(seed: u8, name: &str, text: &str) -> Entry {
        Entry::Said { time: "12:00:00".into(), peer: peer(seed), name: name.into(), text: text.into() }
    }

    fn picture(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content().chunks(usize::from(width));
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn lines_people_and_input_have_their_places() {
        let mut model = Model::new(peer(1), "ada".into());
        model.joined(peer(2), "bob");
        model.add(said(2, "bob", "hello ada, this is a line that is too long for what is left of the row"));
        "hi".chars().for_each(|c| drop(model.key(KeyCode::Char(c).into())));
        let rows = picture(&mut model, 70, 7);
        assert!(rows[0].contains("you are ada · 2 here"), "{rows:#?}");
        assert!(rows[1].starts_with(&" ".repeat(48)) && rows[1].ends_with("│ ada (you)"), "{rows:#?}");
        assert!(rows[2].starts_with("12:00:00 bob: hello ada, this is a line that is │"), "{rows:#?}");
        assert!(rows[3].starts_with("              too long for what is left of the"), "{rows:#?}");
        assert!(rows[2].ends_with("│ bob"), "{rows:#?}");
        assert_eq!(rows[6], "> hi");
    }

    #[test]
    fn commands_can_be_pasted_however_narrow_the_terminal_is() {
        let mut model = Model::new(peer(1), "ada".into());
        let text =
            "peerage chat /ip4/127.0.0.1/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        model.add(Entry::Command { text: text.into() });
        for width in [10, 40, 70, 97, 98, 120] {
            let rows = picture(&mut model, width, 20);
            let pasted: String = rows[1..18].iter().map(|row| format!("{row}\n")).collect();
            assert_eq!(pasted.replace("\\\n", "").trim(), text, "{width}");
        }
    }

    #[test]
    fn narrow_and_tiny_terminals_are_survived() {
        let mut model = Model::new(peer(1), "ada".into());
        model.joined(peer(2), "somebody with a long name");
        model.add(said(2, "somebody with a long name", "words and more words 你好你好你好"));
        "a long line that does not fit".chars().for_each(|c| drop(model.key(KeyCode::Char(c).into())));
        for width in 1..70 {
            for height in 1..8 {
                picture(&mut model, width, height);
            }
        }
        let rows = picture(&mut model, 20, 10);
        assert!(rows.iter().any(|row| row.contains("words and more words")), "{rows:#?}");
        assert!(rows[9].ends_with("does not fit"), "the end of the input is seen: {rows:#?}");
    }

    #[test]
    fn files_that_move_have_bars_and_not_too_many() {
        let mut model = Model::new(peer(1), "ada".into());
        let bar = |id: usize| Bar {
            label: format!("{id} report.pdf from bob"),
            percent: 45,
            amount: "45 %, 9.0 MiB of 20.0 MiB, 1.0 MiB/s".into(),
        };
        assert!(model.show_files(vec![bar(1)], 1));
        assert!(!model.show_files(vec![bar(1)], 1), "nothing new");
        let rows = picture(&mut model, 90, 24);
        let full = format!("{}{}", "━".repeat(9), "─".repeat(11));
        assert_eq!(rows[21], format!(" 1 report.pdf from bob {full} 45 %, 9.0 MiB of 20.0 MiB, 1.0 MiB/s"));
        assert!(rows[22].contains("1 file offered to you: /accept"), "{rows:#?}");
        let rows = picture(&mut model, 50, 24);
        assert_eq!(rows[21], " 1 report.p… 45 %, 9.0 MiB of 20.0 MiB, 1.0 MiB/s");
        model.show_files((1..=6).map(bar).collect(), 0);
        let rows = picture(&mut model, 90, 24);
        assert!(rows[20].starts_with(" 3 report.pdf") && rows[21].starts_with(" and 3 more"), "{rows:#?}");
        for (width, height) in [(1, 1), (3, 8), (20, 9), (40, 5)] {
            picture(&mut model, width, height);
        }
    }

    #[test]
    fn scrolling_stops_at_the_first_line() {
        let mut model = Model::new(peer(1), "ada".into());
        (0..50).for_each(|number| model.add(Entry::Note { text: format!("line {number}") }));
        assert_eq!(picture(&mut model, 30, 8)[5], "line 49");
        (0..100).for_each(|_| drop(model.key(KeyCode::PageUp.into())));
        let rows = picture(&mut model, 30, 8);
        assert_eq!((rows[1].as_str(), rows[5].as_str()), ("line 0", "line 4"));
        model.key(KeyCode::PageDown.into());
        assert_eq!(picture(&mut model, 30, 8)[1], "line 4");
        model.key(KeyCode::Esc.into());
        assert_eq!(picture(&mut model, 30, 8)[5], "line 49");
    }
}
