//! Text to tokens: Python's lexical rules for one expression, and braces that hold pathpoints.
//!
//! Tokens are made on demand and every byte is looked at a bounded number of times. What Python has and this language has
//! not is refused here as far as a single character or word tells.

use super::functions::Function;
use super::text::{QUICK_DIGITS, is_slow_float};
use super::{MAX_BRACES, MAX_LONG_FLOATS};

/// Most characters of a word that an error message repeats.
const SHOWN: usize = 40;

/// What the text is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'t> {
    Int(i128),
    Float(f64),
    Text(String),
    /// The name of a pathpoint, without its braces.
    Variable(&'t str),
    Function(Function),
    /// An operator, a bracket or a keyword, as it is written.
    Symbol(&'static str),
    End,
}

/// An error message and the byte offset that it is about.
pub(super) type Refusal = (String, usize);

const LINE_BREAK: &str = "a line break inside a text; '\\n' writes one";

/// Every symbol; the longer come first, so that the first match is the one that Python takes.
const SYMBOLS: [&str; 25] = [
    "**", "//", "<<", ">>", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%", "&", "|", "^", "~",
    "<", ">", "(", ")", "[", "]", ",", ":",
];

const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "if", "else", "True", "False"];

/// Python's other keywords, for a message that tells more than "unknown name".
const FOREIGN_KEYWORDS: [&str; 27] = [
    "None", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "except", "finally", "for", "from", "global", "import", "is", "lambda", "nonlocal", "pass",
    "raise", "return", "try", "while", "with", "yield",
];

/// Takes a text apart, from left to right.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// How many floats of many digits there were so far.
    long_floats: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            long_floats: 0,
        }
    }

    /// The next token and the offset at which it starts.
    pub(super) fn token(&mut self) -> Result<(Token<'t>, usize), Refusal> {
        self.skip(|letter| matches!(letter, ' ' | '\t' | '\x0c' | '\n' | '\r'));
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, start));
        };
        let second = rest.as_bytes().get(1).copied().unwrap_or_default();
        let token = match first {
            '0'..='9' => self.number()?,
            '.' if second.is_ascii_digit() => self.number()?,
            '\'' | '"' => self.literal(false)?,
            '{' => self.variable()?,
            letter if letter.is_ascii_alphabetic() || letter == '_' => self.word()?,
            other => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Token::Symbol(symbol)
                }
                None => return Err((unexpected(other), start)),
            },
        };
        Ok((token, start))
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes letters while they are wanted.
    fn skip(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|letter| !wanted(letter)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// Takes this letter, in either case, if it comes next.
    fn skip_letter(&mut self, letter: char) -> bool {
        let found = self
            .peek()
            .is_some_and(|next| next.to_ascii_lowercase() == letter);
        self.at += usize::from(found);
        found
    }

    fn variable(&mut self) -> Result<Token<'t>, Refusal> {
        let start = self.at;
        let mut depth = 0;
        for (offset, letter) in self.rest().char_indices() {
            match letter {
                '{' if depth == MAX_BRACES => {
                    let message = format!("braces are nested deeper than {MAX_BRACES} levels");
                    return Err((message, start + offset));
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.at = start + offset + 1;
                let name = self.text.get(start + 1..self.at - 1).unwrap_or_default();
                if name.is_empty() {
                    return Err(("there is no pathpoint between the braces".into(), start));
                }
                return Ok(Token::Variable(name));
            }
        }
        Err(("'{' was never closed".into(), start))
    }

    fn word(&mut self) -> Result<Token<'t>, Refusal> {
        let start = self.at;
        let word = self.skip(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if matches!(self.peek(), Some('\'' | '"')) {
            match word.to_ascii_lowercase().as_str() {
                "u" => return self.literal(false),
                "r" => return self.literal(true),
                "b" | "f" | "br" | "rb" | "fr" | "rf" => {
                    return Err((not_here(&format!("{word}'…'")), start));
                }
                _ => {}
            }
        }
        if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == word) {
            return Ok(Token::Symbol(keyword));
        }
        if let Some(function) = Function::from_name(word) {
            return Ok(Token::Function(function));
        }
        let shown: String = word.chars().take(SHOWN).collect();
        Err(if FOREIGN_KEYWORDS.contains(&word) {
            (not_here(&format!("'{shown}'")), start)
        } else {
            let functions = Function::names().collect::<Vec<_>>().join(", ");
            let message = format!(
                "unknown name '{shown}': pathpoints are written in braces, and the functions are {functions}"
            );
            (message, start)
        })
    }

    fn number(&mut self) -> Result<Token<'t>, Refusal> {
        let start = self.at;
        if self.skip_letter('0') {
            for (letter, radix, name) in [
                ('x', 16, "hexadecimal"),
                ('o', 8, "octal"),
                ('b', 2, "binary"),
            ] {
                if self.skip_letter(letter) {
                    return self.integer_with_prefix(start, radix, name);
                }
            }
            self.at = start;
        }
        let mut is_float = false;
        if self.peek() != Some('.') {
            self.digits(10, "decimal")?;
        }
        if self.skip_letter('.') {
            is_float = true;
            if self.peek().is_some_and(|next| next.is_ascii_digit()) {
                self.digits(10, "decimal")?;
            }
        }
        let before_exponent = self.at;
        if self.skip_letter('e') {
            let signed = self.skip_letter('+') || self.skip_letter('-');
            if signed || self.peek().is_some_and(|next| next.is_ascii_digit()) {
                self.digits(10, "decimal")?;
                is_float = true;
            } else {
                // No exponent: the start of a word, as in `1else`.
                self.at = before_exponent;
            }
        }
        self.end_of_number("decimal")?;
        let digits = self.without_underscores(start);
        if is_float {
            self.long_floats += usize::from(is_slow_float(&digits));
            if self.long_floats > MAX_LONG_FLOATS {
                let message = format!(
                    "there are more than {MAX_LONG_FLOATS} floats of over {QUICK_DIGITS} digits"
                );
                return Err((message, start));
            }
            let float = digits
                .parse()
                .map_err(|_| ("invalid decimal literal".into(), start))?;
            return Ok(Token::Float(float));
        }
        let significant = digits.trim_start_matches('0');
        if significant.len() < digits.len() && !significant.is_empty() {
            let message = "leading zeros in decimal integer literals are not permitted; \
                use an 0o prefix for octal integers";
            return Err((message.into(), start));
        }
        to_integer(significant, 10, start)
    }

    fn integer_with_prefix(
        &mut self,
        start: usize,
        radix: u32,
        name: &str,
    ) -> Result<Token<'t>, Refusal> {
        let digits_start = self.at;
        self.skip_letter('_');
        self.digits(radix, name)?;
        self.end_of_number(name)?;
        let digits = self.without_underscores(digits_start);
        to_integer(digits.trim_start_matches('0'), radix, start)
    }

    /// Takes one or more digits, with single underscores between them.
    fn digits(&mut self, radix: u32, name: &str) -> Result<(), Refusal> {
        loop {
            if self.skip(|letter| letter.is_digit(radix)).is_empty() {
                return Err((format!("invalid {name} literal"), self.at));
            }
            if !self.skip_letter('_') {
                return Ok(());
            }
        }
    }

    /// A number ends before anything but a letter or a digit; Python lets a keyword follow at once.
    fn end_of_number(&self, name: &str) -> Result<(), Refusal> {
        let rest = self.rest();
        let end = rest
            .find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .unwrap_or(rest.len());
        match rest.get(..end).unwrap_or_default() {
            "" => Ok(()),
            word if KEYWORDS.contains(&word) => Ok(()),
            "j" | "J" => Err((not_here("a complex number"), self.at)),
            _ => Err((format!("invalid {name} literal"), self.at)),
        }
    }

    /// The text from there to here, without underscores.
    fn without_underscores(&self, from: usize) -> String {
        self.text
            .get(from..self.at)
            .unwrap_or_default()
            .replace('_', "")
    }

    /// A text in quotes, of which there may be three.
    fn literal(&mut self, raw: bool) -> Result<Token<'t>, Refusal> {
        let start = self.at;
        let unterminated = || ("the text was never closed".into(), start);
        let quote = self.peek().unwrap_or('\'');
        let triple: String = [quote; 3].iter().collect();
        let closing = if self.rest().starts_with(&triple) {
            triple
        } else {
            quote.into()
        };
        self.at += closing.len();
        let mut content = String::new();
        loop {
            if self.rest().starts_with(&closing) {
                self.at += closing.len();
                return Ok(Token::Text(content));
            }
            let here = self.at;
            let letter = self.peek().ok_or_else(unterminated)?;
            self.at += letter.len_utf8();
            match letter {
                '{' | '}' => {
                    let message = "a brace inside a text, where it would hold a pathpoint; \
                        '\\x7b' and '\\x7d' write braces";
                    return Err((message.into(), here));
                }
                '\n' | '\r' => {
                    return Err((LINE_BREAK.into(), here));
                }
                '\0' => return Err((unexpected(letter), here)),
                '\\' if raw => {
                    // A raw text keeps the backslash and what it hides from the lexer.
                    content.push(letter);
                    if let Some(hidden @ ('\'' | '"' | '\\')) = self.peek() {
                        self.at += 1;
                        content.push(hidden);
                    }
                }
                '\\' => self.escape(here, &mut content)?,
                _ => content.push(letter),
            }
        }
    }

    /// What follows a backslash. As in Python, a letter that means nothing keeps its backslash.
    fn escape(&mut self, start: usize, content: &mut String) -> Result<(), Refusal> {
        let letter = self
            .peek()
            .ok_or_else(|| ("the text was never closed".into(), start))?;
        let code = match letter {
            '0'..='7' => {
                let digits = self
                    .rest()
                    .bytes()
                    .take(3)
                    .take_while(|digit| (b'0'..=b'7').contains(digit));
                let count = digits.count();
                self.code_point(count, 8)
            }
            'x' | 'u' | 'U' => {
                self.at += 1;
                self.code_point(
                    match letter {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    },
                    16,
                )
            }
            '\\' | '\'' | '"' => Some(letter),
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            'N' => return Err((not_here("'\\N{…}'"), start)),
            '\n' | '\r' => return Err((LINE_BREAK.into(), start)),
            _ => {
                content.push('\\');
                return Ok(());
            }
        };
        content.push(code.ok_or_else(|| ("invalid escape in a text".into(), start))?);
        if !matches!(letter, '0'..='7' | 'x' | 'u' | 'U') {
            self.at += 1;
        }
        Ok(())
    }

    /// Takes so many digits of a character's code.
    fn code_point(&mut self, count: usize, radix: u32) -> Option<char> {
        let digits = self.rest().get(..count)?;
        self.at += count;
        if !digits.chars().all(|digit| digit.is_digit(radix)) {
            return None;
        }
        char::from_u32(u32::from_str_radix(digits, radix).ok()?)
    }
}

/// An integer from its digits without leading zeros.
fn to_integer<'t>(digits: &str, radix: u32, start: usize) -> Result<Token<'t>, Refusal> {
    if digits.is_empty() {
        return Ok(Token::Int(0));
    }
    i128::from_str_radix(digits, radix)
        .map(Token::Int)
        .map_err(|_| ("the integer does not fit 128 bits".into(), start))
}

/// What Python has and this language has not.
fn not_here(what: &str) -> String {
    format!("{what} is not part of the expression language")
}

/// A character that starts nothing.
fn unexpected(letter: char) -> String {
    match letter {
        '}' => "unmatched '}'".into(),
        '.' => not_here("an attribute"),
        '#' => not_here("a comment"),
        ';' => not_here("a statement"),
        '\\' => not_here("a line continuation"),
        '=' | '@' => not_here(&format!("'{letter}'")),
        letter if letter.is_control() => format!("invalid character U+{:04X}", u32::from(letter)),
        letter => format!("invalid character '{letter}' (U+{:04X})", u32::from(letter)),
    }
}
