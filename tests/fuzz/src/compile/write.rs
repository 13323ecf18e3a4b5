//! Texts from choices: expands the [`GRAMMAR`], each production chosen by the next bytes.

use arbitrary::{Arbitrary as _, Result, Unstructured};

use super::grammar::GRAMMAR;

/// Some resources. Choices that have run out end the text.
pub(super) fn resources(choices: &mut Unstructured<'_>) -> String {
    let mut text = String::new();
    while !choices.is_empty() && text.len() < MOST_TEXT {
        text.push_str("apiVersion: networking.istio.io/v1\n");
        if expand("document", choices, &mut text).is_err() {
            break;
        }
        text.push_str("---\n");
    }
    text
}

/// A MeshConfig.
pub(super) fn mesh(choices: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    expand("mesh", choices, &mut text)?;
    Ok(text)
}

/// Writes one production of a symbol. The grammar has no cycle, so this ends.
fn expand(symbol: &str, choices: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    let (symbol, optional) = symbol.strip_suffix('?').map_or((symbol, false), |name| (name, true));
    if optional && bool::arbitrary(choices)? {
        return Ok(());
    }
    if symbol == "text" {
        return any_text(choices, text);
    }
    let rule = GRAMMAR.iter().find(|(name, _)| *name == symbol);
    let (_, productions) = rule.unwrap_or_else(|| panic!("the grammar has no <{symbol}>"));
    let mut rest = *choices.choose(productions)?;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let (inner, after) = after.split_once('>').unwrap_or((after, ""));
        expand(inner, choices, text)?;
        rest = after;
    }
    text.push_str(rest);
    Ok(())
}

/// Any text of a few characters, quoted.
fn any_text(choices: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    text.push('"');
    for _ in 0..choices.int_in_range(0..=8)? {
        match char::arbitrary(choices)? {
            character @ ('"' | '\\') => text.extend(['\\', character]),
            character if character.is_control() => text.push('?'),
            character => text.push(character),
        }
    }
    text.push('"');
    Ok(())
}

/// Bytes of a text after which no further resource is begun.
const MOST_TEXT: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_that_is_named_exists() {
        for (name, productions) in GRAMMAR {
            for production in *productions {
                for part in production.split('<').skip(1) {
                    let inner = part.split('>').next().unwrap_or_default();
                    let inner = inner.trim_end_matches('?');
                    let known = inner == "text" || GRAMMAR.iter().any(|(name, _)| *name == inner);
                    assert!(known, "<{inner}> in {name}");
                }
            }
        }
    }
}
