package authority

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// webTimeout bounds one call to a CA's server.
const webTimeout = 30 * time.Second

// webClient speaks HTTPS to a CA's server. The roots are those of a file in PEM
// or, without one, the system's. Redirects are not followed: a token must not
// travel on.
func webClient(rootsFile string) (*http.Client, error) {
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if rootsFile != "" {
		data, err := readRegular(rootsFile, maxCertFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s: there is no certificate in it", rootsFile)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Transport: t, Timeout: webTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, nil
}

// checkURL refuses an address that a token could be read on the way to.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("%q is not an https:// address of a server", s)
	}
	return nil
}

// call sends one JSON request and decodes the answer into out. What a server
// says of its refusal is quoted in the error, at most 300 bytes of it.
func call(ctx context.Context, c *http.Client, method, address string, header http.Header, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		// The error of net/http names the address, no header and no body.
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("%s %s: the answer is longer than %d bytes", method, address, maxAnswer)
	}
	if resp.StatusCode/100 != 2 {
		return &refusal{method + " " + address, resp.StatusCode, why(data)}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not what was expected: %w", method, address, err)
	}
	return nil
}

// A refusal is an answer of a server that is no success.
type refusal struct {
	request string
	status  int
	why     string // what the server says of it; may be empty
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: %d %s%s", r.request, r.status, http.StatusText(r.status), r.why)
}

// why quotes what a server says of its refusal.
func why(data []byte) string {
	var m struct {
		Message string   `json:"message"` // step-ca
		Errors  []string `json:"errors"`  // Vault, OpenBao
	}
	if json.Unmarshal(data, &m) != nil {
		return ""
	}
	text := strings.Join(strings.Fields(m.Message+" "+strings.Join(m.Errors, "; ")), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	if text == "" {
		return ""
	}
	return fmt.Sprintf(": %q", text)
}

// joinChain parses the PEM texts of an answer, leaf first, each certificate
// once.
func joinChain(texts ...string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for i, t := range texts {
		if strings.TrimSpace(t) == "" {
			if i == 0 {
				return nil, errors.New("there is no certificate in the answer")
			}
			continue
		}
		certs, err := parseChain([]byte(t))
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			seen := false
			for _, have := range chain {
				seen = seen || have.Equal(c)
			}
			if !seen {
				chain = append(chain, c)
			}
		}
	}
	return chain, nil
}
