//! What `p2p-bridge names resolve --explain` shows: which overlay can bring a content, and why.

use std::fmt::Write as _;

use p2pbridge_proto::v1;
use serde_json::{Value, json};

use super::table::{Table, exact, plain};

/// Whether the content of an answer can be served to anybody now.
pub(super) fn can_be_served(answer: &v1::ResolveResponse) -> bool {
    answer.choices.iter().any(|choice| choice.usable) || holds_all(answer)
}

fn holds_all(answer: &v1::ResolveResponse) -> bool {
    let layout = answer.binding.as_ref().and_then(|binding| binding.layout.as_ref());
    layout.is_some_and(|layout| layout.length > 0 && answer.held_bytes >= layout.length)
}

/// Why nothing can serve it, in one line.
pub(super) fn no(answer: &v1::ResolveResponse) -> String {
    let mut reasons: Vec<String> = Vec::new();
    for choice in &answer.choices {
        let reason = match choice.refusal.starts_with("no route") {
            true => choice.refusal.clone(),
            false => format!("{}: {}", choice.from_overlay, choice.refusal),
        };
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    match reasons.as_slice() {
        [] => "no: no other overlay has a name of this content".to_owned(),
        reasons => plain(&format!("no: nothing can bring it now: {}", reasons.join("; "))),
    }
}

/// The choices for people.
pub(super) fn text(answer: &v1::ResolveResponse) -> String {
    let mut text = String::new();
    let mut to = None;
    for (number, choice) in answer.choices.iter().enumerate() {
        // Writing to a string does not fail.
        if to != Some(&choice.to_overlay) {
            let _ = writeln!(text, "\nto {}:", plain(&choice.to_overlay));
            to = Some(&choice.to_overlay);
        }
        let best = number == 0 || answer.choices[number - 1].to_overlay != choice.to_overlay;
        let verdict = match (choice.usable, best) {
            (true, true) => "the best".to_owned(),
            (true, false) => "possible".to_owned(),
            (false, _) => format!("not possible: {}", plain(&choice.refusal)),
        };
        let direct = if choice.direct { ", peers named directly" } else { "" };
        let _ = writeln!(
            text,
            "  from {}  {}  {}{direct}  {:.1} points  {verdict}",
            plain(&choice.from_overlay),
            plain(&choice.urn),
            plain(&choice.content_class),
            choice.score,
        );
        let mut table = Table::new(["TERM", "POINTS", "OF", "WHAT IS KNOWN"], &[1, 2]);
        for term in &choice.terms {
            table.row([
                term.what.replace('_', " "),
                format!("{:.1}", term.points),
                format!("{:.1}", term.weight),
                term.value.clone(),
            ]);
        }
        text.push_str(&table.text("    "));
    }
    if answer.held_bytes > 0 {
        let all = if holds_all(answer) { ": all of it" } else { "" };
        let _ = writeln!(text, "\nthe bridge holds {} of it{all}", exact(answer.held_bytes));
    }
    text
}

/// The choices for programs.
pub(super) fn rows(answer: &v1::ResolveResponse) -> Vec<Value> {
    let term = |term: &v1::ScoreTerm| {
        json!({
            "what": term.what,
            "value": term.value,
            "weight": term.weight,
            "points": term.points,
        })
    };
    let row = |choice: &v1::OverlayChoice| {
        json!({
            "from": choice.from_overlay,
            "to": choice.to_overlay,
            "name": choice.urn,
            "class": choice.content_class,
            "direct": choice.direct,
            "score": choice.score,
            "terms": choice.terms.iter().map(term).collect::<Vec<_>>(),
            "usable": choice.usable,
            "refusal": choice.refusal,
        })
    };
    answer.choices.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(from: &str, refusal: &str) -> v1::OverlayChoice {
        v1::OverlayChoice {
            from_overlay: from.to_owned(),
            to_overlay: "b".to_owned(),
            urn: "urn:btih:77".to_owned(),
            content_class: "video".to_owned(),
            score: 28.25,
            terms: vec![v1::ScoreTerm {
                what: "round_trip".to_owned(),
                value: "12.0 ms".to_owned(),
                weight: 10.0,
                points: 9.4,
            }],
            usable: refusal.is_empty(),
            refusal: refusal.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn each_choice_shows_its_points_and_why_it_is_out() {
        let answer = v1::ResolveResponse {
            choices: vec![choice("a", ""), choice("c", "no peer is known\u{1b}")],
            ..Default::default()
        };
        assert!(can_be_served(&answer));
        assert_eq!(
            text(&answer),
            "\nto b:\n\
             \x20 from a  urn:btih:77  video  28.2 points  the best\n\
             \x20   TERM        POINTS    OF  WHAT IS KNOWN\n\
             \x20   round trip     9.4  10.0  12.0 ms\n\
             \x20 from c  urn:btih:77  video  28.2 points  not possible: no peer is known\u{FFFD}\n\
             \x20   TERM        POINTS    OF  WHAT IS KNOWN\n\
             \x20   round trip     9.4  10.0  12.0 ms\n"
        );
        assert_eq!(rows(&answer)[1]["usable"], false);
    }

    #[test]
    fn when_nothing_can_serve_the_no_has_all_reasons() {
        let none = v1::ResolveResponse::default();
        assert!(!can_be_served(&none));
        assert_eq!(no(&none), "no: no other overlay has a name of this content");
        let choices = vec![choice("a", "no route from a to b"), choice("c", "no peer is known")];
        let mut answer = v1::ResolveResponse { choices, ..Default::default() };
        assert!(!can_be_served(&answer));
        assert_eq!(
            no(&answer),
            "no: nothing can bring it now: no route from a to b; c: no peer is known"
        );
        let layout = Some(v1::Layout { length: 5, ..Default::default() });
        answer.binding = Some(v1::Binding { layout, ..Default::default() });
        answer.held_bytes = 5;
        assert!(can_be_served(&answer));
        assert!(text(&answer).ends_with("the bridge holds 5 B of it: all of it\n"));
    }
}
