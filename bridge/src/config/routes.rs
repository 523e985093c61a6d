//! `[[routes]]`: what may cross, and how well each way serves.

use p2pbridge_adapters::{Configured, Mode};
use p2pbridge_proto::{OverlayId, OverlayIdError};
use serde::Deserialize;
use toml::Spanned;

use super::{ByteSize, ConfigError, complaint};
use crate::{routes::Route, status::choice::ContentClass};

/// The dearest that a GiB may be.
const MOST_COST: f64 = 1_000_000.0;

/// One route, as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteForm {
    from: Spanned<String>,
    to: Spanned<String>,
    #[serde(default)]
    agreement: String,
    max_rate: Option<Spanned<ByteSize>>,
    #[serde(default)]
    direct: Option<Spanned<bool>>,
    cost: Option<Spanned<f64>>,
    #[serde(default)]
    classes: Vec<Spanned<ContentClass>>,
}

/// The routes, each between two overlays that there are.
pub(super) fn checked(
    text: &str,
    forms: Vec<RouteForm>,
    overlays: &[(&'static str, Configured)],
) -> Result<Vec<Route>, ConfigError> {
    let find = |word: &Spanned<String>| -> Result<&(&'static str, Configured), ConfigError> {
        let id: OverlayId = word
            .as_ref()
            .parse()
            .map_err(|error: OverlayIdError| complaint(text, &word.span(), &error.to_string()))?;
        if let Some(found) = overlays.iter().find(|(_, overlay)| overlay.id == id) {
            return Ok(found);
        }
        let ids: Vec<_> = overlays.iter().map(|(_, overlay)| overlay.id.as_str()).collect();
        let expected = if ids.is_empty() { "none is configured".into() } else { ids.join(", ") };
        Err(complaint(text, &word.span(), &format!("unknown overlay, expected one of: {expected}")))
    };
    let mut routes: Vec<Route> = Vec::new();
    for form in forms {
        let ((speaks, from), (other, to)) = (find(&form.from)?, find(&form.to)?);
        let mode = to.mode;
        let (from, to) = (from.id.clone(), to.id.clone());
        if from == to {
            return Err(complaint(text, &form.to.span(), "a route leads to another overlay"));
        }
        if routes.iter().any(|route| route.from == from && route.to == to) {
            let problem = format!("there is a route from {from} to {to} already");
            return Err(complaint(text, &form.to.span(), &problem));
        }
        let max_rate = match form.max_rate {
            Some(rate) if rate.get_ref().0 == 0 => {
                return Err(complaint(text, &rate.span(), "expected more than 0 bytes a second"));
            }
            rate => rate.map(|rate| rate.into_inner().0),
        };
        let direct = match form.direct {
            Some(direct) if *direct.get_ref() && speaks != other => {
                let problem = format!(
                    "peers of {from} speak {speaks}, and peers of {to} {other}: they cannot talk directly"
                );
                return Err(complaint(text, &direct.span(), &problem));
            }
            Some(direct) if *direct.get_ref() && mode == Mode::Presence => {
                let problem = format!(
                    "peers of {to} do not ask the bridge, so it can name nobody to them: mode = \"presence\""
                );
                return Err(complaint(text, &direct.span(), &problem));
            }
            direct => direct.is_some_and(Spanned::into_inner),
        };
        let cost = match form.cost {
            Some(cost) if !(0.0..=MOST_COST).contains(cost.get_ref()) => {
                let problem = format!("expected the cost of a GiB, from 0 to {MOST_COST}");
                return Err(complaint(text, &cost.span(), &problem));
            }
            cost => cost.map_or(0.0, Spanned::into_inner),
        };
        let mut classes: Vec<ContentClass> = Vec::new();
        for class in form.classes {
            if classes.contains(class.get_ref()) {
                let problem = format!("`{}` stands here twice", class.get_ref());
                return Err(complaint(text, &class.span(), &problem));
            }
            classes.push(class.into_inner());
        }
        let mut route = Route::new(from, to, form.agreement, max_rate);
        (route.direct, route.cost, route.classes) = (direct, cost, classes);
        routes.push(route);
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    const BASE: &str = "[overlays.bittorrent.a]\ntrackers = [\"http://127.0.0.1:1/announce\"]\n\
                        [overlays.bittorrent.b]\ntrackers = [\"udp://127.0.0.1:2\"]\n";

    fn route(text: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("{BASE}[[routes]]\n{text}\n"))
    }

    fn refusal(text: &str) -> String {
        route(text).err().expect("a refusal").to_string()
    }

    #[test]
    fn a_route_needs_two_known_overlays() {
        assert!(route("from = \"a\"\nto = \"b\"").is_ok());
        let unknown = refusal("from = \"a\"\nto = \"c\"");
        assert!(unknown.contains("expected one of: a, b"), "{unknown}");
        assert!(unknown.contains("7 | to = \"c\"\n  |      ^^^"), "{unknown}");
        assert!(refusal("from = \"a\"\nto = \"a\"").contains("another overlay"));
        let zero = refusal("from = \"a\"\nto = \"b\"\nmax_rate = 0");
        assert!(zero.contains("more than 0"), "{zero}");
    }

    #[test]
    fn a_route_may_be_direct_cost_something_and_be_meant_for_some_classes() {
        let ab = "from = \"a\"\nto = \"b\"\n";
        let front = BASE.replace("[overlays.bittorrent.b]", "[overlays.bittorrent.b.tracker]\n[overlays.bittorrent.b]\nmode = \"front\"\nlisten = [\"127.0.0.1:3\"]");
        let config = Config::parse(&format!(
            "{front}[[routes]]\n{ab}direct = true\ncost = 0.02\nclasses = [\"video\", \"audio\"]\n"
        ));
        let routes = config.unwrap().routes;
        let found = routes.get(0).unwrap();
        assert!(found.direct);
        assert!((found.cost - 0.02).abs() < f64::EPSILON);
        assert_eq!(found.classes, [ContentClass::Video, ContentClass::Audio]);
        let plain = route(ab).unwrap().routes;
        let plain = plain.get(0).unwrap();
        assert!(!plain.direct && plain.cost == 0.0 && plain.classes.is_empty());
        assert_eq!(route(&format!("{ab}cost = 1")).unwrap().routes.get(0).unwrap().cost, 1.0);
        for (text, word) in [
            ("cost = -0.5", "expected the cost of a GiB, from 0"),
            ("cost = nan", "expected the cost of a GiB"),
            ("classes = [\"video\", \"video\"]", "`video` stands here twice"),
            ("classes = [\"films\"]", "unknown variant `films`, expected one of `video`, `audio`"),
            ("direct = 1", "expected a boolean"),
            ("direct = true", "peers of b do not ask the bridge"),
        ] {
            let refused = refusal(&format!("{ab}{text}"));
            assert!(refused.contains(word) && refused.contains("line 8"), "{refused}");
            assert!(refused.contains('^'), "{refused}");
        }
    }
}
