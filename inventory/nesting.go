package inventory

import (
	"bytes"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// excess is a bound that a source exceeds, and where.
type excess struct {
	rng  hcl.Range
	text string
}

func (e *excess) diagnostic() Diagnostic {
	return Diagnostic{
		Severity: SeverityError,
		Summary:  "Expression too deep",
		Detail:   e.text,
		Source:   span(e.rng),
	}
}

// frame is an open bracket, quote or heredoc.
type frame struct {
	open  hclsyntax.TokenType
	ops   int  // operators since the last separator: each may be a level of the syntax tree
	loop  bool // starts with for
	fresh bool // nothing but newlines since it was opened
}

// scanNative bounds the nesting of native syntax. hclsyntax parses and
// evaluates by recursion without a limit, and a Go stack overflow cannot be
// recovered (hashicorp/hcl#809). The lexer does not recurse.
func scanNative(src []byte, file string) *excess {
	tokens, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos)
	return scanTokens(tokens)
}

var closers = map[hclsyntax.TokenType]hclsyntax.TokenType{
	hclsyntax.TokenCParen:   hclsyntax.TokenOParen,
	hclsyntax.TokenCBrack:   hclsyntax.TokenOBrack,
	hclsyntax.TokenCBrace:   hclsyntax.TokenOBrace,
	hclsyntax.TokenCQuote:   hclsyntax.TokenOQuote,
	hclsyntax.TokenCHeredoc: hclsyntax.TokenOHeredoc,
}

func scanTokens(tokens hclsyntax.Tokens) *excess {
	stack := []frame{{fresh: true}}
	depth, loops := 0, 0
	for i, tok := range tokens {
		top := &stack[len(stack)-1]
		wasFresh := top.fresh
		if tok.Type != hclsyntax.TokenNewline && tok.Type != hclsyntax.TokenComment {
			top.fresh = false
		}
		switch tok.Type {
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			if tok.Type == hclsyntax.TokenOBrack {
				top.ops, depth = top.ops+1, depth+1 // may be an index, a level that stays
			}
			if tok.Type == hclsyntax.TokenTemplateControl && i+1 < len(tokens) {
				switch string(tokens[i+1].Bytes) {
				case "if", "for":
					top.ops, depth = top.ops+1, depth+1
				}
			}
			stack = append(stack, frame{open: tok.Type, fresh: true})
			depth++
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			// What does not match stays open: the parser's recovery may
			// have gone deeper there.
			match := top.open == closers[tok.Type]
			if tok.Type == hclsyntax.TokenTemplateSeqEnd {
				match = top.open == hclsyntax.TokenTemplateInterp || top.open == hclsyntax.TokenTemplateControl
			}
			if match && len(stack) > 1 {
				depth -= top.ops + 1
				if top.loop {
					loops--
				}
				stack = stack[:len(stack)-1]
			}
		case hclsyntax.TokenComma:
			depth -= top.ops
			top.ops = 0
		case hclsyntax.TokenNewline:
			if (top.open == hclsyntax.TokenOBrace || len(stack) == 1) && !top.loop {
				depth -= top.ops
				top.ops = 0
			}
		case hclsyntax.TokenIdent:
			if wasFresh && string(tok.Bytes) == "for" {
				switch top.open {
				case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenTemplateControl:
					top.loop = true
					loops++
				}
			}
			if top.open == hclsyntax.TokenTemplateControl && len(stack) > 1 {
				switch string(tok.Bytes) {
				case "endif", "endfor":
					if outer := &stack[len(stack)-2]; outer.ops > 0 {
						outer.ops--
						depth--
					}
				}
			}
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar,
			hclsyntax.TokenSlash, hclsyntax.TokenPercent, hclsyntax.TokenAnd, hclsyntax.TokenOr,
			hclsyntax.TokenQuestion, hclsyntax.TokenDot, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual,
			hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
			top.ops++
			depth++
		case hclsyntax.TokenNumberLit:
			if !plainNumber(tok.Bytes) {
				return &excess{tok.Range, fmt.Sprintf("A number may have %d characters and an exponent of three digits.", maxNumberText)}
			}
		}
		if depth > maxNesting {
			return &excess{tok.Range, fmt.Sprintf("Brackets, templates and operators are nested more than %d levels deep here. Use locals to name parts of the expression, or several shorter lines.", maxNesting)}
		}
		if loops > maxLoops {
			return &excess{tok.Range, fmt.Sprintf("At most %d for expressions may be nested. Use locals to name the inner ones.", maxLoops)}
		}
	}
	return nil
}

// plainNumber refuses numbers that take unreasonable time or memory to print.
func plainNumber(b []byte) bool {
	if len(b) > maxNumberText {
		return false
	}
	if i := bytes.IndexAny(b, "eE"); i >= 0 {
		return len(bytes.TrimLeft(b[i+1:], "+-")) <= 3
	}
	return true
}

// scanJSON bounds the nesting of the JSON variant: of JSON itself and of the
// templates inside its strings.
func scanJSON(src []byte, file string) *excess {
	depth := 0
	pos := hcl.InitialPos
	at := func(n int) hcl.Range {
		end := pos
		end.Byte, end.Column = end.Byte+n, end.Column+n
		return hcl.Range{Filename: file, Start: pos, End: end}
	}
	for i := 0; i < len(src); {
		pos.Byte = i
		n := 1
		switch c := src[i]; {
		case c == '\n':
			pos.Line++
			pos.Column = 0
		case c == '{' || c == '[':
			if depth++; depth > maxNesting {
				return &excess{at(1), fmt.Sprintf("JSON may be nested %d levels deep.", maxNesting)}
			}
		case c == '}' || c == ']':
			depth = max(0, depth-1)
		case c == '"':
			for n < len(src)-i && src[i+n] != '"' {
				if src[i+n] == '\\' {
					n++
				}
				n++
			}
			n = min(n+1, len(src)-i)
			if e := scanJSONString(src[i:i+n], at(n)); e != nil {
				return e
			}
		case c == '-' || c >= '0' && c <= '9':
			for i+n < len(src) && bytes.IndexByte([]byte("0123456789+-.eE"), src[i+n]) >= 0 {
				n++
			}
			if !plainNumber(src[i : i+n]) {
				return &excess{at(n), fmt.Sprintf("A number may have %d characters and an exponent of three digits.", maxNumberText)}
			}
		}
		i += n
		pos.Column += n
	}
	return nil
}

func scanJSONString(quoted []byte, rng hcl.Range) *excess {
	if !bytes.Contains(quoted, []byte("${")) && !bytes.Contains(quoted, []byte("%{")) && !bytes.Contains(quoted, []byte(`\u`)) {
		return nil
	}
	text := quoted
	if s, ok := unquoteJSON(quoted); ok {
		text = []byte(s)
	}
	tokens, _ := hclsyntax.LexTemplate(text, rng.Filename, hcl.InitialPos)
	if e := scanTokens(tokens); e != nil {
		e.rng = rng
		return e
	}
	return nil
}
