package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// Vault is the PKI engine of HashiCorp Vault or OpenBao: requests go to
// /v1/MOUNT/sign/ROLE. The role must allow the names and usages of the policy
// and take names from the request (use_csr_sans, its default).
type Vault struct {
	Address string // https://…
	Mount   string // empty means pki
	Role    string
	// ClientRole is the role of what is for clients only; empty means Role.
	// Vault gives a certificate the usages of its role, whatever is asked for.
	ClientRole string
	Namespace  string // empty means none
	Roots      string // file of the server's CA, PEM; empty means the system's
	Token      Secret // stays the caller's to wipe
}

// OpenVault opens an authority in Vault or OpenBao. Nothing is asked of the
// server before the first Sign.
func OpenVault(ctx context.Context, name, dir, run string, v Vault, l *ledger.Ledger) (*External, error) {
	fail := func(err error) (*External, error) { return nil, fmt.Errorf("authority %s: %w", name, err) }
	if err := checkURL(v.Address); err != nil {
		return fail(err)
	}
	if v.Token.Empty() {
		return fail(errors.New("the token is empty"))
	}
	client, err := webClient(v.Roots)
	if err != nil {
		return fail(err)
	}
	return openExternal(ctx, name, dir, run, &vaultDriver{Vault: v, client: client}, l)
}

type vaultDriver struct {
	Vault
	client *http.Client
}

func (v *vaultDriver) request(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	mount := strings.Trim(v.Mount, "/")
	if mount == "" {
		mount = "pki"
	}
	ips := make([]string, len(r.Profile.IPs))
	for i, ip := range r.Profile.IPs {
		ips[i] = ip.String()
	}
	in := map[string]any{
		"csr": string(requestPEM(r)), "common_name": r.Profile.CommonName,
		"alt_names": strings.Join(r.Profile.DNSNames, ","), "ip_sans": strings.Join(ips, ","),
		// The common name is no address that anybody dials.
		"exclude_cn_from_sans": true,
		"ttl":                  strconv.Itoa(int(r.Profile.Lifetime.Seconds())) + "s", "format": "pem",
	}
	role := v.Role
	if v.ClientRole != "" && slices.Equal(r.Profile.Usages, []pki.Usage{pki.UsageClient}) {
		role = v.ClientRole
	}
	header := http.Header{"X-Vault-Request": {"true"}, "X-Vault-Token": {string(v.Token.Bytes())}}
	if v.Namespace != "" {
		header.Set("X-Vault-Namespace", v.Namespace)
	}
	var out struct {
		Data struct {
			Certificate string   `json:"certificate"`
			Issuer      string   `json:"issuing_ca"`
			Chain       []string `json:"ca_chain"`
		} `json:"data"`
	}
	address := strings.TrimRight(v.Address, "/") + "/v1/" + mount + "/sign/" + role
	if err := call(ctx, v.client, http.MethodPost, address, header, in, &out); err != nil {
		var no *refusal
		if errors.As(err, &no) && no.status == http.StatusForbidden {
			return nil, fmt.Errorf("%w: the token has ended, or its policy lacks update on %s/sign/%s", err, mount, role)
		}
		return nil, err
	}
	return joinChain(append([]string{out.Data.Certificate, out.Data.Issuer}, out.Data.Chain...)...)
}
