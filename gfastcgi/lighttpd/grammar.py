"""Reads the text of one lighttpd.conf into statements.

    statement  = name ("=" / "+=" / ":=") expression / "include" expression / "include_shell" expression
               / chain / "global" block
    chain      = condition block *("else" ["if"] condition block) ["else" block]     ; elseif, elsif, elif as well
    condition  = "$" NAME "[" string "]" ("==" / "!=" / "=~" / "!~" / "=^" / "=$") expression
    block      = "{" *statement "}"
    expression = term *("+" term)        term  = string / integer / name / array
    array      = "(" *( [ element ] "," ) [ element ] ")"     element = [ expression "=>" ] expression

Newlines are white space, in strings too; the only escape in a string is `\\"`. A fault is reported and reading goes
on at the next line that begins a statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, cast

from gfastcgi.config import Operator, Where
from gfastcgi.errors import ConfigSyntaxError
from gfastcgi.lighttpd.nodes import (
    Assign,
    Branch,
    Chain,
    Element,
    Expression,
    Global,
    Include,
    List,
    Literal,
    Name,
    Statement,
    Sum,
    describe,
)
from gfastcgi.lighttpd.report import Report

__all__ = ["MAX_NESTING", "parse"]

MAX_NESTING = 64
"""Blocks and arrays within one another, before it is an error: far beyond need, far below Python's stack."""

ASSIGNMENTS = frozenset({"=", "+=", ":="})
CONDITIONS = frozenset({"==", "!=", "=~", "!~", "=^", "=$"})
ELSE_IF = frozenset({"elseif", "elsif", "elif"})

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
    | "(?P<string>(?:[^"\\]|\\"|\\(?!"))*)"
    | (?P<integer>-?[0-9]{1,99})(?![\w.])
    | (?P<variable>\$[A-Za-z_]+)
    | (?P<name>[A-Za-z_][\w.\-]*)
    | (?P<operator>=>|==|=~|=\^|=\$|!=|!~|\+=|:=|[=+,()\[\]{}])
    """,
    re.VERBOSE | re.ASCII,
)


class _Token(NamedTuple):
    kind: str  # "string", "integer", "variable", "name", "bad", "end", or the operator itself
    text: str
    lineno: int
    is_first: bool  # on its line

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end of the file"
        return describe(self.text) if self.kind == "string" else f"'{self.text}'"


class _FaultError(Exception):
    """A fault in a line: reported, and recovered from, by the statement loop."""

    def __init__(self, message: str, lineno: int) -> None:
        super().__init__(message)
        self.lineno = lineno


def _tokens(text: str) -> Iterator[_Token]:
    position, lineno, is_first = 0, 1, True
    while position < len(text):
        match = _TOKEN.match(text, position)
        kind = match.lastgroup if match else None
        if match is None or kind is None:
            stop = _end_of_bad(text, position)
            yield _Token("bad", text[position:stop], lineno, is_first)
        elif kind == "space":
            stop = match.end()
        else:
            value = match.group(kind)
            stop = match.end()
            yield _Token(value if kind == "operator" else kind, value, lineno, is_first)
        newlines = text.count("\n", position, stop)
        lineno += newlines
        is_first = newlines > 0 or (is_first and kind == "space")
        position = stop
    yield _Token("end", "", lineno, True)


def _end_of_bad(text: str, position: int) -> int:
    """Where to go on behind what is no token: an open string ends with its line, anything else with its word."""
    end_of_line = text.find("\n", position)
    end_of_line = len(text) if end_of_line < 0 else end_of_line
    if text[position] == '"':
        return end_of_line
    word = re.compile(r"[\w.\-]+|.", re.DOTALL).match(text, position)
    return word.end() if word else position + 1


class _Parser:
    def __init__(self, text: str, filename: str, report: Report, depth: int) -> None:
        self.tokens = list(_tokens(text))
        self.position = 0
        self.filename = filename
        self.report = report
        self.depth = depth

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def where(self, token: _Token) -> Where:
        return Where(self.filename, token.lineno)

    def take(self) -> _Token:
        token = self.token
        if token.kind != "end":
            self.position += 1
        return token

    def expect(self, kind: str, what: str) -> _Token:
        if self.token.kind != kind:
            raise self.fault(what)
        return self.take()

    def fault(self, expected: str) -> _FaultError:
        """Expected this, found the token at hand; when that stands in a later line, this one lacks something."""
        token = self.token
        if token.kind == "bad" and token.text.startswith('"'):
            return _FaultError("a string has no closing quote", token.lineno)
        lineno = self.tokens[self.position - 1].lineno if token.is_first and self.position else token.lineno
        hint = "".join(
            f" (the string that opens in line {before.lineno} may lack its closing quote)"
            for before in self.tokens[max(0, self.position - 2) : self.position + 1]
            if before.kind == "string" and "\n" in before.text
        )
        if expected == "a value" and token.text[:1] in ("/", "'"):
            hint += "; text stands in double quotes"
        return _FaultError(f"expected {expected}, found {token}{hint}", lineno)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise _FaultError(f"blocks and arrays are nested more than {MAX_NESTING} deep", self.token.lineno)

    def statements(self, end: str) -> tuple[Statement, ...]:
        """Every statement up to the token `end`, which is not taken."""
        found: list[Statement] = []
        while self.token.kind not in (end, "end"):
            start, depth = self.position, self.depth
            try:
                found.append(self.statement())
            except _FaultError as fault:
                self.report.error(ConfigSyntaxError, str(fault), Where(self.filename, fault.lineno))
                self.depth = depth
                self.recover(start)
        return tuple(found)

    def recover(self, start: int) -> None:
        """Goes to the next line that begins a statement, or to the end of the block that this one stands in."""
        if self.position == start:
            self.position += 1
            open_blocks = 1 if self.tokens[start].kind == "{" else 0
        else:
            open_blocks = 0
        while self.token.kind != "end":
            if self.token.kind == "{":
                open_blocks += 1
            elif self.token.kind == "}":
                if not open_blocks:
                    return
                open_blocks -= 1
            elif not open_blocks and self.token.is_first and self.begins_statement():
                return
            self.position += 1

    def begins_statement(self) -> bool:
        token = self.token
        if token.kind == "variable":
            return True
        if token.kind != "name":
            return False
        is_keyword = token.text in ("include", "include_shell", "global")
        return is_keyword or self.tokens[self.position + 1].kind in ASSIGNMENTS

    def statement(self) -> Statement:
        token = self.token
        if token.kind == "variable":
            return self.chain()
        if token.kind != "name":
            raise _FaultError(f"expected a statement, found {token}", token.lineno)
        following = self.tokens[self.position + 1].kind
        if following in ASSIGNMENTS:
            self.take()
            return Assign(token.text, self.take().kind, self.expression(), self.where(token))
        if token.text in ("include", "include_shell"):
            self.take()
            return Include(self.expression(), token.text == "include_shell", self.where(token))
        if token.text == "global":
            self.take()
            return Global(self.block(), self.where(token))
        if token.text == "else" or token.text in ELSE_IF:
            raise _FaultError(f"'{token.text}' follows no conditional", token.lineno)
        self.take()
        raise self.fault(f"'=' behind '{token.text}'")

    def block(self) -> tuple[Statement, ...]:
        opening = self.token
        self.deeper()
        self.expect("{", "'{'")
        body = self.statements("}")
        if self.token.kind == "end":
            raise _FaultError(f"the block that opens in line {opening.lineno} has no '}}'", self.token.lineno)
        self.take()
        self.depth -= 1
        return body

    def chain(self) -> Chain:
        first = self.token
        branches = [self.branch()]
        while self.token.kind == "name" and (self.token.text == "else" or self.token.text in ELSE_IF):
            if not branches[-1].variable:
                message = "'else' follows an 'else' without a condition, and is never reached"
                raise _FaultError(message, self.token.lineno)
            word = self.take()
            if word.text == "else" and self.token.kind == "{":
                branches.append(Branch("", "==", None, self.block(), self.where(word)))
                continue
            if word.text == "else" and self.token.kind == "name" and self.token.text == "if":
                self.take()
            branches.append(self.branch())
        return Chain(tuple(branches), self.where(first))

    def branch(self) -> Branch:
        token = self.expect("variable", 'a condition like $HTTP["host"]')
        self.expect("[", "'['")
        selector = self.expect("string", "a string")
        self.expect("]", "']'")
        if self.token.kind not in CONDITIONS:
            raise self.fault("one of == != =~ !~ =^ =$")
        operator = cast("Operator", self.take().kind)
        operand = self.expression()
        variable = f'{token.text[1:]}["{selector.text}"]'
        return Branch(variable, operator, operand, self.block(), self.where(token))

    def expression(self) -> Expression:
        where = self.where(self.token)
        terms = [self.term()]
        while self.token.kind == "+":
            self.take()
            terms.append(self.term())
        return terms[0] if len(terms) == 1 else Sum(tuple(terms), where)

    def term(self) -> Expression:
        token = self.token
        if token.kind == "string":
            return Literal(self.take().text.replace('\\"', '"'), self.where(token))
        if token.kind == "integer":
            return Literal(int(self.take().text), self.where(token))
        if token.kind == "name" and not (token.is_first and self.begins_statement()):
            return Name(self.take().text, self.where(token))
        if token.kind == "(":
            return self.array()
        raise self.fault("a value")

    def array(self) -> List:
        where = self.where(self.token)
        self.deeper()
        self.expect("(", "'('")
        elements: list[Element] = []
        while self.token.kind != ")":
            if self.token.kind == ",":
                self.take()
                continue
            elements.append(self.element())
            if self.token.kind not in (",", ")"):
                raise self.fault("',' or ')'")
        self.take()
        self.depth -= 1
        return List(tuple(elements), where)

    def element(self) -> Element:
        where = self.where(self.token)
        first = self.expression()
        if self.token.kind != "=>":
            return Element(None, first, where)
        self.take()
        return Element(first, self.expression(), where)


def parse(text: str, filename: str, report: Report, *, depth: int = 0) -> tuple[Statement, ...]:
    """The statements of `text`; every fault goes to `report`. `depth` is how deep the text is included."""
    if "\0" in text:
        lineno = text.count("\n", 0, text.index("\0")) + 1
        report.error(ConfigSyntaxError, "a NUL byte, which no configuration may hold", Where(filename, lineno))
        return ()
    parser = _Parser(text.removeprefix("\ufeff"), filename, report, depth)
    statements = list(parser.statements("end"))
    return tuple(statements)
