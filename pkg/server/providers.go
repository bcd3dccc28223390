package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// providerBody is one provider as the user's guide writes it.
type providerBody struct {
	Type   string   `json:"type"`
	Name   string   `json:"name"`
	Config settings `json:"config"`
	// Hint is what to type next, of one that was added.
	Hint string `json:"hint,omitempty"`
}

// settings are a provider's keys without its type, which stands beside them.
type settings struct {
	provider.Config
	Type string `json:"type,omitempty"` // always empty
}

func newProviderBody(name string, c provider.Config) providerBody {
	return providerBody{Type: c.Type, Name: name, Config: settings{Config: c}}
}

func (s *Server) listProviders(w http.ResponseWriter, _ *http.Request) *apiError {
	r, err := provider.Load(s.Registry)
	if err != nil {
		return s.failed("read the providers", err)
	}
	list := struct {
		Current   string         `json:"current,omitempty"`
		Providers []providerBody `json:"providers"`
	}{Current: r.Current}
	for _, name := range r.Names() {
		c, err := r.Get(name)
		if err != nil {
			return s.failed("read the providers", err)
		}
		list.Providers = append(list.Providers, newProviderBody(name, c))
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (s *Server) getProvider(w http.ResponseWriter, r *http.Request) *apiError {
	registry, err := provider.Load(s.Registry)
	if err != nil {
		return s.failed("read the providers", err)
	}
	name := r.PathValue("name")
	c, err := registry.Get(name)
	if err != nil {
		return s.unknown(err)
	}
	writeJSON(w, http.StatusOK, newProviderBody(name, c))
	return nil
}

func (s *Server) unknown(err error) *apiError {
	return &apiError{Status: http.StatusNotFound, Message: err.Error(), Hint: s.Program + " provider list"}
}

func (s *Server) addProvider(w http.ResponseWriter, r *http.Request) *apiError {
	name, c, apiErr := s.readProvider(r)
	if apiErr != nil {
		return apiErr
	}
	err := provider.Update(r.Context(), s.Registry, func(r *provider.Registry) error {
		current := r.Current
		err := r.Add(name, c)
		// Nobody here has said who they are: which provider jobs go to, the account's
		// owner chooses.
		r.Current = current
		return err
	})
	switch {
	case errors.Is(err, provider.ErrTaken):
		return s.taken(name, err)
	case err != nil:
		return s.notChanged("store the provider", err)
	}
	use := s.Program + " provider use " + name
	s.Log.Info("provider added", "name", name, "type", c.Type, "context", c.Context, "hint", use)
	w.Header().Set("Location", "/api/providers/"+name)
	body := newProviderBody(name, c)
	body.Hint = use
	writeJSON(w, http.StatusCreated, body)
	return nil
}

// notChanged is why the file of providers is as it was.
func (s *Server) notChanged(what string, err error) *apiError {
	if busy, ok := errors.AsType[*provider.BusyError](err); ok {
		s.Log.Warn(what, "error", err)
		return &apiError{Status: http.StatusServiceUnavailable, Message: err.Error(), Hint: "see by whom: fuser -v " + busy.Lock}
	}
	if errors.Is(err, context.Canceled) { // the client has gone, or the server ends
		return &apiError{Status: http.StatusServiceUnavailable, Message: "the server is ending"}
	}
	return s.failed(what, err)
}

func (s *Server) taken(name string, err error) *apiError {
	e := &apiError{Status: http.StatusConflict, Message: err.Error()}
	if name != provider.Local {
		e.Hint = fmt.Sprintf("%s provider remove %s, or DELETE /api/providers/%s", s.Program, name, name)
	}
	return e
}

// readProvider reads the provider that a request asks for, ready to be added.
func (s *Server) readProvider(r *http.Request) (string, provider.Config, *apiError) {
	body, apiErr := readBody(r)
	if apiErr != nil {
		return "", provider.Config{}, apiErr
	}
	name, c, err := provider.ParseRequest(body)
	if err != nil {
		return "", c, badRequest(err.Error(), "")
	}
	// Into an empty registry: what is wrong with it, whatever is there already.
	err = (&provider.Registry{}).Add(name, c)
	switch {
	case errors.Is(err, provider.ErrTaken):
		return "", c, s.taken(name, err)
	case err != nil:
		return "", c, badRequest(err.Error(), "")
	case c.Type == provider.Local:
		// Whoever puts it in use runs processes of this machine, and no cluster's.
		return "", c, badRequest(fmt.Sprintf("type: %q can't be added over HTTP: its jobs are processes of this machine", c.Type),
			"use the one that is built in: "+s.Program+" run --provider local -- COMMAND")
	case c.Kubeconfig != "":
		// It can name a program to be run: whoever reaches this port would choose what
		// hodei runs here.
		return "", c, badRequest("config.kubeconfig: can't be set over HTTP", s.Program+" provider add "+name+" --kubeconfig FILE")
	case c.AllowHostPath:
		return "", c, badRequest("config.allow_host_path: can't be set over HTTP", s.Program+" provider add "+name+" -f FILE")
	}
	if err := s.Complete(&c); err != nil {
		hint := ""
		if failure, ok := errors.AsType[*job.Failure](err); ok {
			hint = failure.Hint
		}
		return "", c, badRequest(err.Error(), hint)
	}
	return name, c, nil
}

// readBody reads a body that is JSON.
func readBody(r *http.Request) ([]byte, *apiError) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &apiError{Status: http.StatusUnsupportedMediaType, Message: "the body is to be JSON",
			Hint: `send the header "Content-Type: application/json"`}
	}
	body, err := io.ReadAll(r.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &apiError{Status: http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("the body has more than %d bytes", maxBodyBytes)}
	}
	switch {
	case err != nil:
		return nil, badRequest("read the body: "+err.Error(), "")
	case !json.Valid(body): // else it could be YAML, which the file's reader takes too
		return nil, badRequest("the body is not JSON", `send {"type": "kubernetes", "name": NAME, "config": {...}}`)
	}
	return body, nil
}

func badRequest(message, hint string) *apiError {
	return &apiError{Status: http.StatusBadRequest, Message: message, Hint: hint}
}

func (s *Server) removeProvider(w http.ResponseWriter, r *http.Request) *apiError {
	name := r.PathValue("name")
	if name == provider.Local {
		return &apiError{Status: http.StatusConflict, Message: fmt.Sprintf("provider %q is built in", name)}
	}
	err := provider.Update(r.Context(), s.Registry, func(r *provider.Registry) error { return r.Remove(name) })
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return s.unknown(err)
	case err != nil:
		return s.notChanged("remove the provider", err)
	}
	s.Log.Info("provider removed", "name", name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
