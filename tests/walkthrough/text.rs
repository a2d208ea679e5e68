//! What a walk-through's text asks for: files to write, commands to run, and notes to the test.
//!
//! | in the text | is |
//! | --- | --- |
//! | a block of ```` ```toml NAME ```` | a file |
//! | a block of ```` ```sh ```` | commands, run from one block to the next in one folder |
//! | a block of ```` ```text ```` | what the commands before it print |
//! | any other block | for the reader only |
//! | `<!-- test: NOTE -->` | what somebody besides the reader does |

/// One thing to do.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Write a file.
    File { name: String, contents: String },
    /// Run commands; `prints` is what they print, where the text says.
    Run { script: String, prints: Option<String> },
    /// Do what a note says.
    Note(String),
}

/// The steps of a text, in its order.
///
/// # Panics
/// A block without an end, or an output without commands before it.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let note = line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(note) = note {
            steps.push(Step::Note(note.to_owned()));
        }
        let Some(kind) = line.strip_prefix("```") else { continue };
        let mut block = String::new();
        loop {
            match lines.next().unwrap_or_else(|| panic!("no end of the block {kind:?}:\n{block}")) {
                "```" => break,
                line => block.extend([line, "\n"]),
            }
        }
        match kind.split_once(' ') {
            Some(("toml", name)) => {
                steps.push(Step::File { name: name.to_owned(), contents: block });
            }
            None if kind == "sh" => steps.push(Step::Run { script: block, prints: None }),
            None if kind == "text" => match steps.last_mut() {
                Some(Step::Run { prints: prints @ None, .. }) => *prints = Some(block),
                other => panic!("an output behind {other:?}:\n{block}"),
            },
            _ => {}
        }
    }
    steps
}

/// Whether something was printed as the text says: line by line, blanks being one, and `…` anything.
pub(crate) fn is_like(printed: &str, said: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let printed: Vec<_> = printed.lines().map(words).collect();
    let said: Vec<_> = said.lines().map(words).collect();
    printed.len() == said.len()
        && printed.iter().zip(&said).all(|(printed, said)| line_is_like(printed, said))
}

fn line_is_like(printed: &str, said: &str) -> bool {
    let mut parts = said.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_notes_are_steps_in_their_order_and_all_else_is_for_the_reader() {
        let text = "# Title\n\n```toml a.toml\nx = 1\n```\nwords\n```sh\ntrue\nfalse\n```\n\n```text\nno\n\
                    ```\n<!-- test: wait for it -->\n<!-- not for it -->\n```\nseen\n```\n";
        let expected = [
            Step::File { name: "a.toml".to_owned(), contents: "x = 1\n".to_owned() },
            Step::Run { script: "true\nfalse\n".to_owned(), prints: Some("no\n".to_owned()) },
            Step::Note("wait for it".to_owned()),
        ];
        assert_eq!(steps(text), expected);
    }

    #[test]
    fn what_is_printed_differs_in_blanks_and_where_the_text_leaves_it_open() {
        let cases = [
            (true, "a  b\n", "a b\n"),
            (false, "a b c\n", "a b\n"),
            (false, "a b\nc\n", "a b\n"),
            (true, "room sfu-b sfu-b 2\n", "room sfu-… sfu-… 2\n"),
            (false, "room sfu-b sfu-b 3\n", "room sfu-… sfu-… 2\n"),
            (true, "{\"token\":\"ab.x\",\"n\":1}\n", "{\"token\":\"ab.…\",\"n\":1}\n"),
            (false, "ab\n", "ab…b\n"),
        ];
        for (like, printed, said) in cases {
            assert_eq!(is_like(printed, said), like, "{printed:?} and {said:?}");
        }
    }
}
