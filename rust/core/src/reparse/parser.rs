//! Tokens to code: Python's expression grammar, by precedence climbing.
//!
//! The parser emits code as it reads, so its memory is that of the code. A run of code without jumps into it from outside
//! is known by where it starts; an operation whose operands are all constants is evaluated at once and replaced by its
//! result, unless it fails: then the error is the evaluation's.

use std::collections::HashMap;

use super::arithmetic::{Binary, Unary};
use super::compare::Comparison;
use super::error::SyntaxError;
use super::evaluate::{self, Stack};
use super::functions::Function;
use super::lexer::{Lexer, Refusal, Token};
use super::op::{Op, SliceParts};
use super::operand::Operand;
use super::program::Program;
use super::text::Budget;
use super::{MAX_DEPTH, MAX_LENGTH, MAX_REPARSE};

/// Longest text, in bytes, that is kept as the result of a constant part: what is longer is made at each evaluation, so that
/// a program takes little memory.
const MAX_FOLDED: usize = 256;

/// How tightly the operators bind, from the loosest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Not,
    Comparison,
    BitOr,
    BitXor,
    BitAnd,
    Shift,
    Sum,
    Term,
    Unary,
}

/// What stands between two operands.
#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Comparison(Comparison),
    Binary(Binary),
}

impl Program {
    /// Compiles an expression: what follows the type letter in the name of a reparse pathpoint.
    ///
    /// # Errors
    ///
    /// [`SyntaxError`] when the text is not an expression of this language, or is too long or nested too deeply.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        parse(text, true)
    }
}

/// Compiles a text; `fold` tells whether to evaluate constants.
pub(super) fn parse(text: &str, fold: bool) -> Result<Program, SyntaxError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        at: 0,
        depth: 0,
        code: Vec::new(),
        constants: Vec::new(),
        slots: HashMap::new(),
        variables: Vec::new(),
        reparse: 0,
        folding: fold.then(|| (Stack::default(), Budget::default())),
    };
    match parser.whole(text) {
        Ok(()) => Ok(Program {
            source: text.into(),
            code: parser.code,
            constants: parser.constants,
            variables: parser.variables,
        }),
        Err((message, offset)) => Err(SyntaxError::new(message, text, offset)),
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The token that comes next, and where it starts.
    token: Token<'t>,
    at: usize,
    depth: usize,
    code: Vec<Op>,
    constants: Vec<Operand>,
    slots: HashMap<&'t str, u16>,
    variables: Vec<Box<str>>,
    /// How many reparse pathpoints these are and have in them.
    reparse: usize,
    folding: Option<(Stack, Budget)>,
}

type Parsed<T = ()> = Result<T, Refusal>;

impl<'t> Parser<'t> {
    fn whole(&mut self, text: &str) -> Parsed {
        if text.len() > MAX_LENGTH {
            return Err((
                format!("the expression is longer than {MAX_LENGTH} bytes"),
                MAX_LENGTH,
            ));
        }
        self.advance()?;
        self.expression()?;
        if self.token != Token::End {
            self.unexpected("the end")
        } else {
            Ok(())
        }
    }

    /// Takes the token that comes next.
    fn advance(&mut self) -> Parsed<Token<'t>> {
        let (token, at) = self.lexer.token()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Takes this symbol if it comes next.
    fn take(&mut self, symbol: &str) -> Parsed<bool> {
        let found = matches!(self.token, Token::Symbol(next) if next == symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, symbol: &str) -> Parsed {
        if self.take(symbol)? {
            Ok(())
        } else {
            self.unexpected(&format!("'{symbol}'"))
        }
    }

    fn unexpected<T>(&self, expected: &str) -> Parsed<T> {
        let found = match &self.token {
            Token::Int(_) | Token::Float(_) => "a number",
            Token::Text(_) => "a text",
            Token::Variable(_) => "a pathpoint",
            Token::Function(function) => function.name(),
            Token::Symbol(symbol) => symbol,
            Token::End => "the end",
        };
        let quote = if matches!(self.token, Token::Symbol(_) | Token::Function(_)) {
            "'"
        } else {
            ""
        };
        Err((
            format!("expected {expected}, found {quote}{found}{quote}"),
            self.at,
        ))
    }

    /// Parses what is nested one level deeper.
    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth == MAX_DEPTH {
            let message = format!("the expression is nested deeper than {MAX_DEPTH} levels");
            return Err((message, self.at));
        }
        self.depth += 1;
        inner(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// `then if condition else otherwise`. Evaluation begins with the condition, so its code moves to the front.
    fn expression(&mut self) -> Parsed {
        let mut skips = Vec::new();
        loop {
            let start = self.code.len();
            self.operation(Level::Or)?;
            if !self.take("if")? {
                break;
            }
            let then_length = self.code.len() - start;
            self.operation(Level::Or)?;
            self.code.push(Op::Unless(distance(then_length + 1)));
            if let Some(branch) = self.code.get_mut(start..) {
                branch.rotate_left(then_length);
            }
            skips.push(self.code.len());
            self.code.push(Op::Skip(0));
            self.expect("else")?;
        }
        self.code.extend(skips.iter().map(|_| Op::Select));
        for skip in skips {
            self.land(skip);
        }
        Ok(())
    }

    /// Operators that bind at least as tightly as the level, and their operands.
    fn operation(&mut self, level: Level) -> Parsed {
        let start = self.code.len();
        self.operand(level)?;
        while let Some((next, infix)) = self.infix(level) {
            match infix {
                Infix::Comparison(comparison) => self.comparison(start, comparison)?,
                Infix::Binary(binary) => {
                    self.advance()?;
                    self.operation(tighter(next))?;
                    self.emit(start, 2, Op::Binary(binary));
                }
                Infix::And | Infix::Or => {
                    let skip = self.code.len();
                    self.advance()?;
                    let (jump, join) = match infix {
                        Infix::And => (Op::SkipIfFalse(0), Op::And),
                        _ => (Op::SkipIfTrue(0), Op::Or),
                    };
                    self.code.push(jump);
                    self.operation(tighter(next))?;
                    self.code.push(join);
                    self.land(skip);
                }
            }
        }
        Ok(())
    }

    /// What comes next, if it is an operator between operands that binds at least as tightly as the level.
    fn infix(&self, level: Level) -> Option<(Level, Infix)> {
        let Token::Symbol(symbol) = self.token else {
            return None;
        };
        let binary = |level, binary| (level, Infix::Binary(binary));
        let comparison = |comparison| (Level::Comparison, Infix::Comparison(comparison));
        let found = match symbol {
            "or" => (Level::Or, Infix::Or),
            "and" => (Level::And, Infix::And),
            "==" => comparison(Comparison::Equal),
            "!=" => comparison(Comparison::NotEqual),
            "<" => comparison(Comparison::Less),
            "<=" => comparison(Comparison::LessEqual),
            ">" => comparison(Comparison::Greater),
            ">=" => comparison(Comparison::GreaterEqual),
            "in" => comparison(Comparison::In),
            "not" => comparison(Comparison::NotIn),
            "|" => binary(Level::BitOr, Binary::BitOr),
            "^" => binary(Level::BitXor, Binary::BitXor),
            "&" => binary(Level::BitAnd, Binary::BitAnd),
            "<<" => binary(Level::Shift, Binary::ShiftLeft),
            ">>" => binary(Level::Shift, Binary::ShiftRight),
            "+" => binary(Level::Sum, Binary::Add),
            "-" => binary(Level::Sum, Binary::Subtract),
            "*" => binary(Level::Term, Binary::Multiply),
            "/" => binary(Level::Term, Binary::Divide),
            "//" => binary(Level::Term, Binary::FloorDivide),
            "%" => binary(Level::Term, Binary::Modulo),
            _ => return None,
        };
        (found.0 >= level).then_some(found)
    }

    /// `a < b`, or the chain `a < b < c …`; a is there already.
    fn comparison(&mut self, start: usize, first: Comparison) -> Parsed {
        let mut comparison = first;
        let mut links = Vec::new();
        loop {
            self.advance()?;
            if comparison == Comparison::NotIn {
                self.expect("in")?;
            }
            self.operation(tighter(Level::Comparison))?;
            match self.infix(Level::Comparison) {
                Some((_, Infix::Comparison(next))) => {
                    links.push(self.code.len());
                    self.code.push(Op::Chain(comparison, 0));
                    comparison = next;
                }
                _ => break,
            }
        }
        self.emit(start, 2, Op::Compare(comparison));
        self.code.extend(links.iter().map(|_| Op::EndChain));
        for link in links {
            self.land(link);
        }
        Ok(())
    }

    /// A unary operator and its operand, or a power, or a single operand.
    fn operand(&mut self, level: Level) -> Parsed {
        let start = self.code.len();
        let unary = match self.token {
            Token::Symbol("not") if level <= Level::Not => Some(Unary::Not),
            Token::Symbol("+") => Some(Unary::Positive),
            Token::Symbol("-") => Some(Unary::Negative),
            Token::Symbol("~") => Some(Unary::Invert),
            _ => None,
        };
        if let Some(unary) = unary {
            let level = if unary == Unary::Not {
                Level::Not
            } else {
                Level::Unary
            };
            self.advance()?;
            self.nested(|parser| parser.operation(level))?;
            self.emit(start, 1, Op::Unary(unary));
            return Ok(());
        }
        self.atom()?;
        while self.take("[")? {
            self.nested(|parser| parser.subscript(start))?;
        }
        if self.take("**")? {
            // Binds tighter than a unary operator on its left, and looser than one on its right.
            self.nested(|parser| parser.operation(Level::Unary))?;
            self.emit(start, 2, Op::Binary(Binary::Power));
        }
        Ok(())
    }

    fn atom(&mut self) -> Parsed {
        let at = self.at;
        match self.advance()? {
            Token::Int(int) => self.constant(Operand::Int(int)),
            Token::Float(float) => self.constant(Operand::Float(float)),
            Token::Symbol("True") => self.constant(Operand::Bool(true)),
            Token::Symbol("False") => self.constant(Operand::Bool(false)),
            Token::Text(mut text) => {
                while let Token::Text(more) = &self.token {
                    text.push_str(more);
                    self.advance()?;
                }
                self.constant(Operand::Text(text.into()));
            }
            Token::Variable(name) => {
                let next = distance(self.variables.len());
                let slot = *self.slots.entry(name).or_insert(next);
                if slot == next {
                    self.variables.push(name.into());
                    self.reparse += usize::from(name.starts_with('r')) + name.matches("{r").count();
                    if self.reparse > MAX_REPARSE {
                        let message = format!(
                            "there are more than {MAX_REPARSE} reparse pathpoints in the expression"
                        );
                        return Err((message, at));
                    }
                }
                self.code.push(Op::Load(slot));
            }
            Token::Function(function) => self.call(function, at)?,
            Token::Symbol("(") => {
                self.nested(Self::expression)?;
                self.expect(")")?;
            }
            token => {
                (self.token, self.at) = (token, at);
                return self.unexpected("an operand");
            }
        }
        Ok(())
    }

    fn call(&mut self, function: Function, at: usize) -> Parsed {
        let start = self.code.len();
        self.expect("(")?;
        let mut arguments = 0;
        while !self.take(")")? {
            if arguments > 0 {
                self.expect(",")?;
                if self.take(")")? {
                    break;
                }
            }
            self.nested(Self::expression)?;
            arguments += 1;
        }
        function
            .check_arity(arguments)
            .map_err(|message| (message, at))?;
        self.emit(start, arguments, Op::Call(function, distance(arguments)));
        Ok(())
    }

    /// `index]` or `start:stop:step]`, after the bracket; what is indexed starts at `start`.
    fn subscript(&mut self, start: usize) -> Parsed {
        let mut parts = SliceParts::default();
        if !self.starts_part() {
            self.expect(":")?;
        } else {
            self.expression()?;
            if self.take("]")? {
                self.emit(start, 2, Op::Index);
                return Ok(());
            }
            self.expect(":")?;
            parts.start = true;
        }
        parts.stop = self.part()?;
        if self.take(":")? {
            parts.step = self.part()?;
        }
        self.expect("]")?;
        self.emit(start, 1 + parts.count(), Op::Slice(parts));
        Ok(())
    }

    /// Parses one part of a slice, if it is there.
    fn part(&mut self) -> Parsed<bool> {
        let found = self.starts_part();
        if found {
            self.expression()?;
        }
        Ok(found)
    }

    fn starts_part(&self) -> bool {
        !matches!(self.token, Token::Symbol(":" | "]"))
    }

    fn constant(&mut self, operand: Operand) {
        self.code.push(Op::Constant(distance(self.constants.len())));
        self.constants.push(operand);
    }

    /// Emits an operation on so many operands, whose code starts at `start`; if all are constants, its result.
    fn emit(&mut self, start: usize, operands: usize, op: Op) {
        self.code.push(op);
        let Some((stack, budget)) = &mut self.folding else {
            return;
        };
        let Some(run @ [arguments @ .., _]) = self.code.get(start..) else {
            return;
        };
        let constant = |op: &Op| matches!(op, Op::Constant(_));
        if arguments.len() != operands || !arguments.iter().all(constant) {
            return;
        }
        if let Ok(result) = evaluate::run(run, &self.constants, &[], stack, budget)
            && !matches!(&result, Operand::Text(text) if text.len() > MAX_FOLDED)
        {
            self.code.truncate(start);
            // Constants are numbered as they come, so these operands are the last ones.
            self.constants.truncate(self.constants.len() - operands);
            self.constant(result);
        }
    }

    /// Lets the jump at `from` lead to what is emitted next.
    fn land(&mut self, from: usize) {
        let skipped = distance(self.code.len() - from - 1);
        if let Some(
            Op::Skip(distance)
            | Op::SkipIfFalse(distance)
            | Op::SkipIfTrue(distance)
            | Op::Chain(_, distance),
        ) = self.code.get_mut(from)
        {
            *distance = skipped;
        }
    }
}

/// The next tighter level.
fn tighter(level: Level) -> Level {
    match level {
        Level::Or => Level::And,
        Level::And => Level::Not,
        Level::Not => Level::Comparison,
        Level::Comparison => Level::BitOr,
        Level::BitOr => Level::BitXor,
        Level::BitXor => Level::BitAnd,
        Level::BitAnd => Level::Shift,
        Level::Shift => Level::Sum,
        Level::Sum => Level::Term,
        Level::Term | Level::Unary => Level::Unary,
    }
}

/// A count within a program. The length of the text, each byte of which makes at most two operations, keeps it in range.
fn distance(count: usize) -> u16 {
    const { assert!(MAX_LENGTH <= 0x7FFF) };
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<Op> {
        Program::parse(text).unwrap().code
    }

    #[test]
    fn constants_are_folded() {
        assert_eq!(
            code("2*3+{a}"),
            [Op::Constant(0), Op::Load(0), Op::Binary(Binary::Add)]
        );
        assert_eq!(code("max(1, 2, 3) if True else {a}").len(), 6);
        assert_eq!(code("'abc'[::-1] + str(-2**2)"), [Op::Constant(0)]);
        assert_eq!(
            Program::parse("1+2+3").unwrap().constants,
            [Operand::Int(6)]
        );
    }

    #[test]
    fn long_texts_are_made_when_they_are_needed() {
        assert_eq!(code("'a'*256"), [Op::Constant(0)]);
        assert_eq!(code("'a'*257").len(), 3);
        assert_eq!(code("('a'*257)[0]+'b'").len(), 7);
    }

    #[test]
    fn what_fails_is_left_for_the_evaluation() {
        assert_eq!(code("1/0").len(), 3);
        assert_eq!(code("{a} or 1/0").len(), 6);
        let program = Program::parse("{a} or 1/0").unwrap();
        let mut stack = Stack::default();
        assert_eq!(
            program.evaluate(&[Operand::Int(5)], &mut stack),
            Ok(Operand::Int(5))
        );
        assert!(program.evaluate(&[Operand::Int(0)], &mut stack).is_err());
    }

    #[test]
    fn a_branch_is_not_mistaken_for_an_operand() {
        assert_eq!(code("(1 if {a} else 2) + 3").len(), 8);
        assert_eq!(code("({a} or 2) + 3").len(), 6);
    }

    #[test]
    fn a_program_takes_a_fraction_of_a_mebibyte() {
        for dense in ["1<", "{a}<", "{a}or ", "-1-", "'a'+", "1 if{a}else "] {
            let text = dense.repeat(MAX_LENGTH / dense.len() - 1) + "1";
            let program = parse(&text, false).unwrap();
            let code = size_of_val(program.code.as_slice());
            let constants = size_of_val(program.constants.as_slice());
            assert!(code + constants < 128 * 1024, "{dense} {code} {constants}");
        }
    }

    #[test]
    fn a_pathpoint_has_one_slot() {
        let program = Program::parse("{b}+{a}*{b}+{rW{a}}").unwrap();
        assert_eq!(program.variables().collect::<Vec<_>>(), ["b", "a", "rW{a}"]);
    }
}
