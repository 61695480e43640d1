package handlers

import (
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/gin-gonic/gin/render"
)

// Pages is what c.HTML renders with: in a template ${name} stands for a value, which is escaped for
// text and quoted attributes. Templates are read at each use, so an edit on disk shows at once.
//
// html/template would do more, but calls methods by name, so that the linker keeps all of Gin and of
// what Gin imports: a binary half as large again.
type Pages struct{ Templates fs.FS }

// Instance returns the page; the data must be a gin.H.
func (p Pages) Instance(name string, data any) render.Render {
	return page{p.Templates, name, data.(gin.H)}
}

type page struct {
	templates fs.FS
	name      string
	values    gin.H
}

func (p page) Render(w http.ResponseWriter) error {
	template, err := fs.ReadFile(p.templates, p.name)
	if err != nil {
		return fmt.Errorf("read template: %w", err)
	}
	p.WriteContentType(w)
	var pairs []string
	for name, value := range p.values {
		pairs = append(pairs, "${"+name+"}", html.EscapeString(fmt.Sprint(value)))
	}
	_, err = strings.NewReplacer(pairs...).WriteString(w, string(template))
	return err
}

func (p page) WriteContentType(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
}
