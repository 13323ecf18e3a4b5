//! Texts with `%COMMAND%`s in them, as Envoy takes them apart: formats of access lines, values of headers.

/// A part of such a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// As it is written.
    Text(&'t str),
    /// What is between two percent signs; one inside parentheses is part of it. The last one may lack its
    /// end.
    Command(&'t str),
}

/// The parts of a text in order. `%%` is a percent sign.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = match rest.strip_prefix('%') {
            None => {
                let (text, after) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
                (Piece::Text(text), after)
            }
            Some(after) if after.starts_with('%') => {
                let (percent, after) = after.split_at(1);
                (Piece::Text(percent), after)
            }
            Some(after) => {
                let (command, after) = split_command(after);
                (Piece::Command(command), after)
            }
        };
        rest = after;
        Some(piece)
    })
}

/// The name of a command, what is in its parentheses, and what is behind them.
pub(crate) fn take_apart(command: &str) -> (&str, &str, &str) {
    let (name, rest) = command.split_once('(').unwrap_or((command, ""));
    let (argument, behind) = rest.rsplit_once(')').unwrap_or((rest, ""));
    (name, argument, behind)
}

/// The command, and what is behind its `%`.
fn split_command(text: &str) -> (&str, &str) {
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Piece<'_>]) {
        assert_eq!(pieces(text).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn every_text_is_taken_apart() {
        use Piece::{Command, Text};
        check("", &[]);
        check("plain", &[Text("plain")]);
        check("100%%", &[Text("100"), Text("%")]);
        check("%A%%B(%)%x", &[Command("A"), Command("B(%)"), Text("x")]);
        check("a%%%B%%", &[Text("a"), Text("%"), Command("B"), Command("")]);
        check("x%UNTERMINATED", &[Text("x"), Command("UNTERMINATED")]);
        check("x%B(%", &[Text("x"), Command("B(%")]);
        check("%", &[Command("")]);
    }

    #[test]
    fn a_command_has_a_name_an_argument_and_a_length() {
        assert_eq!(take_apart("REQ(:A?B):10"), ("REQ", ":A?B", ":10"));
        assert_eq!(take_apart("START_TIME"), ("START_TIME", "", ""));
        assert_eq!(take_apart("REQ(A"), ("REQ", "A", ""));
    }
}
