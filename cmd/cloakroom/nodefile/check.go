package nodefile

import (
	"net"
	"path/filepath"
	"strings"
)

// check notes what is missing, and what does not fit together.
func (p *reader) check() {
	f := p.file
	for _, key := range p.order {
		if s := p.settings[key]; s.needed && !p.given(key) {
			p.fault(0, key, "is missing: want "+s.value.want)
		}
	}
	if len(p.faults) > 0 && len(f.lines) == 0 {
		return // nothing could be read: the rest would only repeat that
	}
	p.checkTLS()
	p.checkAdvertise()
	p.checkPorts()
	if f.Audit.File == "" && f.Node.Data != "" {
		f.Audit.File = filepath.Join(f.Node.Data, "audit.log")
	}
	if f.API.Advertise == "" {
		f.API.Advertise = f.API.Listen
	}
}

func (p *reader) given(key string) bool {
	_, given := p.file.lines[key]
	return given
}

func (p *reader) line(key string) int { return p.file.lines[key] }

func (p *reader) checkTLS() {
	f := p.file
	if (f.API.Cert == "") != (f.API.Key == "") {
		p.fault(p.line("api.tls"), "api.tls", "want both cert and key")
	}
	if f.API.TLS == "" && !p.given("api.tls") && !loopback(f.API.Listen) {
		p.fault(p.line("api.listen"), "api.listen",
			"beyond the loopback interface, tokens and values would travel in clear: add `api.tls`, `internal` or a section with cert and key")
	}
	if p.given("api.tls") && f.API.TLS == "" && !p.given("api.tls.cert") && !p.given("api.tls.key") && !p.faulty("api.tls") {
		p.fault(p.line("api.tls"), "api.tls", "want internal, or a section with cert and key")
	}
}

func (p *reader) faulty(key string) bool {
	for _, fault := range p.faults {
		if fault.Key == key || strings.HasPrefix(fault.Key, key+".") {
			return true
		}
	}
	return false
}

// checkAdvertise makes sure that there is an address to dial.
func (p *reader) checkAdvertise() {
	f := p.file
	host, port := split(f.Cluster.Advertise)
	switch {
	case f.Cluster.Advertise == "" && everywhere(f.Cluster.Listen) && !p.faulty("cluster.advertise"):
		p.fault(p.line("cluster.listen"), "cluster.advertise", "is missing: the other nodes can't dial "+f.Cluster.Listen+"; name the address under which they reach this one")
	case f.Cluster.Advertise != "" && (host == "" || isEverywhere(host) || port == "0"):
		p.fault(p.line("cluster.advertise"), "cluster.advertise", "want an address that other nodes can dial")
	}
}

// checkPorts finds listeners that would take each other's place.
func (p *reader) checkPorts() {
	keys := []string{"api.listen", "operator.listen", "cluster.listen"}
	listen := []string{p.file.API.Listen, p.file.Operator.Listen, p.file.Cluster.Listen}
	for i := range keys {
		for j := range i {
			if clash(listen[i], listen[j]) && !p.faulty(keys[i]) && !p.faulty(keys[j]) {
				p.fault(max(p.line(keys[i]), p.line(keys[j])), keys[i], "takes the same port as "+keys[j])
			}
		}
	}
}

func clash(a, b string) bool {
	hostA, portA := split(a)
	hostB, portB := split(b)
	return portA != "" && portA != "0" && portA == portB && (hostA == hostB || isEverywhere(hostA) || isEverywhere(hostB))
}

func split(listen string) (host, port string) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", ""
	}
	return host, port
}

func loopback(listen string) bool {
	host, _ := split(listen)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func everywhere(listen string) bool {
	host, _ := split(listen)
	return isEverywhere(host)
}

// isEverywhere reports whether a host stands for every address of a machine.
func isEverywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
