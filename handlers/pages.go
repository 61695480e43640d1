package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"text/template/parse"

	"github.com/gin-gonic/gin"
	"github.com/gin-gonic/gin/render"
)

// errorPage is the template of every error's page.
const errorPage = "error.html"

// Pages are the templates for c.HTML. Each page has a set of its own: the other files, whose templates it may use, and
// itself. So a mistake in one page leaves the others as they are.
type Pages struct {
	files fs.FS
	funcs template.FuncMap
	sets  map[string]*template.Template // by page; nil if each request reads the files
}

// NewPages returns the pages of a folder. In Gin's debug mode each request reads the files anew, and a mistake in one of
// them is shown in the page. Otherwise they are read now, and a mistake is an error of one line.
func NewPages(files fs.FS, funcs template.FuncMap) (*Pages, error) {
	p := &Pages{files: files, funcs: funcs}
	if gin.IsDebugging() {
		return p, nil
	}
	sources, err := p.read()
	if err != nil {
		return nil, err
	}
	sets, used := map[string]*template.Template{}, map[string]bool{}
	for _, page := range sources {
		if sets[page.name], err = p.parse(sources, page.name); err != nil {
			return nil, err
		}
		for _, name := range includes(sets[page.name].Lookup(page.name)) {
			used[name] = true
		}
	}
	for _, page := range sources {
		if used[page.name] {
			continue // a part of other pages, which may be no page by itself
		}
		var invalid *template.Error // that the HTML is wrong shows when the template runs first
		if err := sets[page.name].ExecuteTemplate(io.Discard, page.name, nil); errors.As(err, &invalid) {
			return nil, located(err)
		}
	}
	p.sets = sets
	return p, nil
}

// source is a file of the folder.
type source struct{ name, text string }

func (p *Pages) read() ([]source, error) {
	names, err := fs.Glob(p.files, "*.html")
	if err != nil {
		return nil, fmt.Errorf("read templates: %w", err)
	}
	var sources []source
	for _, name := range names {
		if text, err := fs.ReadFile(p.files, name); err == nil { // an editor's lock is a link to nowhere
			sources = append(sources, source{name, string(text)})
		}
	}
	return sources, nil
}

// parse returns the set of a page. A file that cannot be parsed is left out, unless it is the page itself.
func (p *Pages) parse(sources []source, page string) (set *template.Template, err error) {
	set = template.New("").Funcs(p.funcs)
	text, found := "", false
	for _, s := range sources {
		if s.name == page {
			text, found = s.text, true
		} else if _, err := p.alone(s); err == nil {
			if _, err := set.New(s.name).Parse(s.text); err != nil {
				return nil, located(err)
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("templates/%s does not exist", page)
	}
	// The page comes last: what it defines holds, also if another page defines the same.
	if _, err := set.New(page).Parse(text); err != nil {
		return nil, located(err)
	}
	return set, nil
}

// includes returns the names of the templates that a template uses directly.
func includes(t *template.Template) (names []string) {
	var visit func(node parse.Node)
	visit = func(node parse.Node) {
		switch node := node.(type) {
		case *parse.ListNode:
			if node != nil {
				for _, inner := range node.Nodes {
					visit(inner)
				}
			}
		case *parse.TemplateNode:
			names = append(names, node.Name)
		case *parse.IfNode:
			visit(node.List)
			visit(node.ElseList)
		case *parse.RangeNode:
			visit(node.List)
			visit(node.ElseList)
		case *parse.WithNode:
			visit(node.List)
			visit(node.ElseList)
		}
	}
	if t != nil && t.Tree != nil {
		visit(t.Tree.Root)
	}
	return names
}

// located returns an error of package template that begins with the file and the line.
func located(err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "html/"), "template: ")
	text = strings.TrimPrefix(text, "template:")
	return errors.New("templates/" + strings.ReplaceAll(text, "\n", " "))
}

// Instance implements render.HTMLRender, for c.HTML.
func (p *Pages) Instance(name string, data any) render.Render {
	return page{pages: p, name: name, data: data}
}

// execute returns a page as text.
func (p *Pages) execute(name string, data any) ([]byte, error) {
	var sources []source
	set := p.sets[name]
	if p.sets == nil {
		var err error
		if sources, err = p.read(); err != nil {
			return nil, err
		}
		if set, err = p.parse(sources, name); err != nil {
			return nil, err
		}
	}
	if set == nil {
		return nil, fmt.Errorf("templates/%s does not exist", name)
	}
	var text bytes.Buffer
	err := set.ExecuteTemplate(&text, name, data)
	if err == nil {
		return text.Bytes(), nil
	}
	var invalid *template.Error
	if errors.As(err, &invalid) && invalid.ErrorCode == template.ErrNoSuchTemplate {
		for _, s := range sources { // it may be in a file that was left out
			if _, mistake := p.alone(s); mistake != nil {
				return nil, fmt.Errorf("%w; %w", located(err), located(mistake))
			}
		}
	}
	return nil, located(err)
}

// alone parses a file by itself.
func (p *Pages) alone(s source) (*template.Template, error) {
	return template.New(s.name).Funcs(p.funcs).Parse(s.text)
}

// page is a page with its data.
type page struct {
	pages *Pages
	name  string
	data  any
}

// Render implements render.Render. It sends nothing of a page that fails: PageErrors answers then. An error's page that
// fails is sent in plain HTML, so that the error is shown anyway. The error that Render returns is for the log.
func (p page) Render(w http.ResponseWriter) error {
	text, err := p.pages.execute(p.name, p.data)
	if err != nil {
		failed := &pageError{err, p.pages.reason(err)}
		data, ok := p.data.(gin.H)
		if !ok || p.name != errorPage {
			return failed
		}
		text, err = plain(data, failed.reason), failed
	}
	p.WriteContentType(w)
	_, failed := w.Write(text)
	return errors.Join(err, failed)
}

// pageError is a page that cannot be rendered, and what its reader is told.
type pageError struct {
	error
	reason string
}

// Unwrap returns the mistake in the template.
func (e *pageError) Unwrap() error { return e.error }

// PageErrors answers with an error's page when a page could not be rendered.
func PageErrors(c *gin.Context) {
	c.Next()
	var failed *pageError
	if last := c.Errors.Last(); last != nil && errors.As(last.Err, &failed) && !c.Writer.Written() {
		fail(c, http.StatusInternalServerError, "This page cannot be shown. "+failed.reason)
	}
}

// reason returns what a page says about a mistake in a template. In release mode it shows nothing of the inside.
func (p *Pages) reason(err error) string {
	if p.sets == nil {
		return err.Error()
	}
	return "The server's log says why."
}

// plain returns the page of an error when error.html cannot be shown.
func plain(data gin.H, reason string) []byte {
	var text bytes.Buffer
	for _, line := range []struct{ tag, text any }{
		{"title", data["title"]}, {"h1", data["title"]}, {"p", data["message"]}, {"p", "The page for errors cannot be shown. " + reason},
	} {
		fmt.Fprintf(&text, "<%s>%s</%[1]s>\n", line.tag, template.HTMLEscaper(line.text))
	}
	fmt.Fprintf(&text, "<p><a href=\"%s\">Back to the events</a></p>\n", template.HTMLEscaper(data["home"]))
	return append([]byte("<!doctype html>\n"), text.Bytes()...)
}

// WriteContentType implements render.Render.
func (page) WriteContentType(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
}
