//! Reads the script: a command a line, its standard input in lines that start with `|`; `3> ` before a command
//! that does not end by itself says after how many lines of output it is ended.

/// One command.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) args: Vec<String>,
    pub(crate) input: String,
    /// A command that does not end by itself is ended after so many lines of output.
    pub(crate) lines: Option<usize>,
}

/// The commands of a script.
pub(crate) fn parse(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in script.lines().enumerate() {
        if let Some(input) = line.strip_prefix('|') {
            let step = steps.last_mut().unwrap();
            step.input.push_str(input.strip_prefix(' ').unwrap_or(input));
            step.input.push('\n');
        } else if !line.is_empty() && !line.starts_with('#') {
            let (lines, command) = match line.split_once("> ") {
                Some((lines, command)) if lines.parse::<usize>().is_ok() => (lines.parse().ok(), command),
                _ => (None, line),
            };
            let (line, text) = (index + 1, line.to_owned());
            steps.push(Step { line, args: words(command), text, input: String::new(), lines });
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

#[test]
fn a_number_before_a_command_limits_its_output() {
    let steps = parse("3> watch a\n| x\nget b");
    assert_eq!((steps[0].lines, steps[0].args.len(), steps[1].lines), (Some(3), 2, None));
}
