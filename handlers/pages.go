package handlers

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"

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
	sets  map[string]set // by page; nil if each request reads the files
}

// set is a page with the templates that it may use.
type set struct {
	*template.Template
	mistake error // in the page, which then cannot be shown
	leftOut error // the first mistake in a file beside it
}

// NewPages returns the pages of a folder. In Gin's debug mode each request reads the files anew, and a mistake in one of
// them is shown in the page. Otherwise they are read now, and a mistake is an error of one line.
func NewPages(files fs.FS, funcs template.FuncMap) (*Pages, error) {
	p := &Pages{files: files, funcs: funcs}
	if gin.IsDebugging() {
		return p, nil
	}
	texts := p.read()
	p.sets = p.parse(texts)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		isPart := false // of other pages, and then it may be no page by itself
		for other, text := range texts {
			isPart = isPart || other != name && strings.Contains(text, name)
		}
		page := p.sets[name]
		if page.mistake != nil {
			return nil, page.mistake
		}
		var invalid *template.Error // that the HTML is wrong shows when the template runs first
		if err := page.ExecuteTemplate(io.Discard, name, nil); errors.As(err, &invalid) && !isPart {
			return nil, located(err)
		}
	}
	return p, nil
}

// read returns the texts of the files, by name.
func (p *Pages) read() map[string]string {
	names, _ := fs.Glob(p.files, "*.html") // fails only for a bad pattern
	texts := map[string]string{}
	for _, name := range names {
		if text, err := fs.ReadFile(p.files, name); err == nil { // an editor's lock is a link to nowhere
			texts[name] = string(text)
		}
	}
	return texts
}

// parse returns the sets of all pages. What a page defines holds in its own, also if another page defines the same.
func (p *Pages) parse(texts map[string]string) map[string]set {
	sets := map[string]set{}
	for page := range texts {
		s := set{Template: template.New("").Funcs(p.funcs)}
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			if name == page {
				continue
			}
			with := template.Must(s.Clone()) // which works until it runs
			if _, err := with.New(name).Parse(texts[name]); err != nil {
				s.leftOut = cmp.Or(s.leftOut, located(err))
				continue
			}
			s.Template = with
		}
		if _, err := s.New(page).Parse(texts[page]); err != nil {
			s.mistake = located(err)
		}
		sets[page] = s
	}
	return sets
}

// located returns an error of package template that begins with the file and the line.
func located(err error) error {
	_, text, _ := strings.Cut(strings.ReplaceAll(err.Error(), "\n", " "), "template:") // "template: file:line: …", or html/template:file:line: …
	return errors.New("templates/" + strings.TrimSpace(text))
}

// execute returns a page as text.
func (p *Pages) execute(name string, data any) ([]byte, error) {
	sets := p.sets
	if sets == nil {
		sets = p.parse(p.read())
	}
	page, found := sets[name]
	if !found {
		return nil, fmt.Errorf("templates/%s does not exist", name)
	}
	if page.mistake != nil {
		return nil, page.mistake
	}
	var text bytes.Buffer
	err := page.ExecuteTemplate(&text, name, data)
	var invalid *template.Error
	switch {
	case err == nil:
		return text.Bytes(), nil
	case errors.As(err, &invalid) && invalid.ErrorCode == template.ErrNoSuchTemplate && page.leftOut != nil:
		return nil, fmt.Errorf("%w; %w", located(err), page.leftOut) // it may be in that file
	}
	return nil, located(err)
}

// Instance implements render.HTMLRender, for c.HTML.
func (p *Pages) Instance(name string, data any) render.Render {
	return page{pages: p, name: name, data: data}
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
		failed := &pageError{err, "The server's log says why."} // and the page nothing of the inside
		if p.pages.sets == nil {
			failed.reason = err.Error()
		}
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

// WriteContentType implements render.Render.
func (page) WriteContentType(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
}

// plain returns the page of an error when error.html cannot be shown.
func plain(data gin.H, reason string) []byte {
	escaped := template.HTMLEscaper
	return fmt.Appendf(nil, "<!doctype html>\n<title>%s</title>\n<h1>%[1]s</h1>\n<p>%s</p>\n<p>The page for errors cannot be shown. %s</p>\n<p><a href=\"%s\">Back to the events</a></p>\n",
		escaped(data["title"]), escaped(data["message"]), escaped(reason), escaped(data["home"]))
}

// pageError is a page that cannot be rendered, and what its reader is told.
type pageError struct {
	error
	reason string
}

// PageErrors answers with an error's page when a page could not be rendered.
func PageErrors(c *gin.Context) {
	c.Next()
	var failed *pageError
	if last := c.Errors.Last(); last != nil && errors.As(last.Err, &failed) && !c.Writer.Written() {
		fail(c, http.StatusInternalServerError, "This page cannot be shown. "+failed.reason)
	}
}
