package handlers

import (
	"html/template"
	"io/fs"
	"net/http"

	"github.com/gin-gonic/gin/render"
)

// Pages is what c.HTML renders with.
type Pages struct{ Templates fs.FS }

func (p Pages) Instance(name string, data any) render.Render { return page{p.Templates, name, data} }

type page struct {
	templates fs.FS
	name      string
	data      any
}

func (p page) Render(w http.ResponseWriter) error {
	t, err := template.ParseFS(p.templates, p.name)
	if err != nil {
		return err
	}
	p.WriteContentType(w)
	return t.Execute(w, p.data)
}

func (p page) WriteContentType(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
}
