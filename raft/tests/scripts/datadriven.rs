//! The file format: comments, a command with arguments, input lines, four dashes, the expected output.

/// One command of a script.
#[derive(Debug)]
pub(crate) struct Directive {
    pub(crate) line: usize,
    pub(crate) command: String,
    pub(crate) args: Vec<Arg>,
    pub(crate) input: String,
    pub(crate) expected: String,
}

/// `key`, `key=value` or `key=(a,b)`.
#[derive(Debug)]
pub(crate) struct Arg {
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

impl Directive {
    /// The argument at `at` as a number.
    pub(crate) fn number(&self, at: usize) -> u64 {
        self.args[at].key.parse().expect("a number")
    }

    /// The first value of `key=`.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.args.iter().find(|arg| arg.key == key).and_then(|arg| arg.values.first()).map(String::as_str)
    }

    /// All arguments without values, as numbers.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let plain = self.args.iter().filter(|arg| arg.values.is_empty());
        plain.map(|arg| arg.key.parse().expect("a number")).collect()
    }
}

/// Splits a file into commands.
pub(crate) fn parse(text: &str) -> Result<Vec<Directive>, String> {
    let mut lines = text.lines().enumerate().peekable();
    let mut directives = Vec::new();
    while let Some((number, first)) = lines.next() {
        let mut command = first.trim().to_string();
        if command.is_empty() || command.starts_with('#') {
            continue;
        }
        while command.ends_with('\\') {
            command.pop();
            let (_, more) = lines.next().ok_or("a command continued past the end")?;
            command.push_str(more.trim());
        }
        let mut input = Vec::new();
        loop {
            match lines.next() {
                Some((_, "----")) => break,
                Some((_, line)) => input.push(line),
                None => return Err(format!("  line {}: no `----`", number + 1)),
            }
        }
        let expected = expected(&mut lines);
        let mut words = split(&command).into_iter();
        let name = words.next().ok_or("an empty command")?;
        directives.push(Directive {
            line: number + 1,
            command: name,
            args: words.map(|word| arg(&word)).collect(),
            input: input.join("\n"),
            expected,
        });
    }
    Ok(directives)
}

/// Up to a blank line; or, after a second `----`, up to a pair of them.
fn expected<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'a str)>>) -> String {
    let mut expected = String::new();
    let fenced = lines.next_if(|(_, line)| *line == "----").is_some();
    while let Some((_, line)) = lines.next() {
        if fenced && line == "----" && lines.next_if(|(_, line)| *line == "----").is_some() {
            break;
        }
        if !fenced && line.is_empty() {
            break;
        }
        expected.push_str(line);
        expected.push('\n');
    }
    expected
}

/// Words, where a parenthesis keeps spaces together.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut depth = 0;
    for c in line.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c.is_whitespace() && depth == 0 {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn arg(word: &str) -> Arg {
    let Some((key, value)) = word.split_once('=') else {
        return Arg { key: word.to_string(), values: Vec::new() };
    };
    let list = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
    let values = match list {
        Some("") => Vec::new(),
        Some(list) => {
            list.split([',', ' ']).map(str::trim).filter(|v| !v.is_empty()).map(str::to_string).collect()
        }
        None => vec![value.to_string()],
    };
    Arg { key: key.to_string(), values }
}
