//! Reads the script: a command a line, its standard input in lines that start with `|`.

/// One command.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) args: Vec<String>,
    pub(super) input: String,
}

pub(super) fn parse(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in script.lines().enumerate() {
        if let Some(input) = line.strip_prefix('|') {
            let step = steps.last_mut().unwrap();
            step.input.push_str(input.strip_prefix(' ').unwrap_or(input));
            step.input.push('\n');
        } else if !line.is_empty() && !line.starts_with('#') {
            let (line, text) = (index + 1, line.to_owned());
            steps.push(Step { line, args: words(&text), text, input: String::new() });
        }
    }
    steps
}

/// Splits at spaces, except within single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "open quote: {line}");
    words.extend(word);
    words
}

#[test]
fn quotes_keep_words_together() {
    assert_eq!(words("put a 'two words' ''"), ["put", "a", "two words", ""]);
}
