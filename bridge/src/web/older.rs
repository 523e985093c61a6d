//! The text format from before OpenMetrics (0.0.4): many collectors, and Prometheus' own `promtool`, read no other.

use std::fmt::Write as _;

/// The same metrics as in an OpenMetrics text. Of counters and infos the whole name is declared; there are no units and no
/// end mark.
pub(super) fn text(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_declared_by_their_whole_names() {
        let open = "# HELP a_bytes How much\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"# HELP\"} 1\n\
                    # HELP b What\n# TYPE b info\nb_info{y=\"z\"} 1\n# HELP c Some\n# TYPE c gauge\nc 2\n# EOF\n";
        let older = "# HELP a_bytes_total How much\n# TYPE a_bytes_total counter\na_bytes_total{x=\"# HELP\"} 1\n\
                     # HELP b_info What\n# TYPE b_info gauge\nb_info{y=\"z\"} 1\n# HELP c Some\n# TYPE c gauge\nc 2\n";
        assert_eq!(text(open), older);
    }
}
