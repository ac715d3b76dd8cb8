package honeypot_deployment_agent

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"unicode"
)

const (
	readMax     = 64 << 10 // bytes of one visitor that are read
	sampleMax   = 200      // characters of what it said that are kept
	commandsMax = 50
	argumentMax = 4 << 10
)

// decoy plays a server for one visitor.
type decoy func(visitor *visitor)

var decoys = map[string]decoy{"ssh": ssh, "http": web, "redis": redis}

// visitor is one connection, with what is known of it.
type visitor struct {
	conn     net.Conn
	in       *bufio.Reader
	read     int
	severity string
	what     string
	details  map[string]string
}

func newVisitor(conn net.Conn) *visitor {
	v := &visitor{conn: conn, severity: "info", what: "connected and said nothing", details: map[string]string{}}
	v.in = bufio.NewReader(&counted{conn, v})
	return v
}

// counted reads at most readMax bytes of a visitor.
type counted struct {
	io.Reader
	visitor *visitor
}

func (c *counted) Read(into []byte) (int, error) {
	left := readMax - c.visitor.read
	if left <= 0 {
		return 0, io.EOF
	}
	if len(into) > left {
		into = into[:left]
	}
	n, err := c.Reader.Read(into)
	c.visitor.read += n
	return n, err
}

func (v *visitor) say(text string) { _, _ = io.WriteString(v.conn, text) }

var ranks = map[string]int{"info": 0, "warning": 1, "critical": 2}

// note keeps what is worse than what is known, or the first word.
func (v *visitor) note(severity, what string) {
	if ranks[severity] > ranks[v.severity] || v.what == "connected and said nothing" {
		v.severity, v.what = severity, what
	}
}

func (v *visitor) detail(name, value string) {
	if value != "" && len(v.details) < 20 {
		v.details[name] = sample(value)
	}
}

// sample keeps what can be shown of a hostile text.
func sample(text string) string {
	clean := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, strings.ToValidUTF8(text, "."))
	if runes := []rune(clean); len(runes) > sampleMax {
		return string(runes[:sampleMax]) + "…"
	}
	return clean
}

// ssh greets, offers algorithms, reads the client's offer, and goes. The client is known by its version and by HASSH, the
// digest of its algorithms (github.com/salesforce/hassh).
func ssh(v *visitor) {
	v.say("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
	line, err := v.in.ReadString('\n')
	if line == "" && err != nil {
		return
	}
	line = strings.TrimSpace(line)
	v.detail("client", line)
	if !strings.HasPrefix(line, "SSH-") {
		v.note("warning", "sent to an SSH server what is no SSH")
		return
	}
	v.note("info", "asked an SSH server for its version")
	_, _ = v.conn.Write(packet(offer()))
	lists, err := clientOffer(v.in)
	if err != nil {
		return
	}
	v.note("warning", "began to log in by SSH")
	v.detail("key_exchange", lists[0])
	v.detail("hassh", hassh(lists))
}

const kexInit = 20

// offer is the decoy's own list of algorithms, RFC 4253 section 7.1.
func offer() []byte {
	out := append([]byte{kexInit}, make([]byte, 16)...)
	for _, list := range []string{
		"curve25519-sha256,ecdh-sha2-nistp256", "ssh-ed25519,rsa-sha2-512", "aes128-ctr,aes256-ctr", "aes128-ctr,aes256-ctr",
		"hmac-sha2-256", "hmac-sha2-256", "none", "none", "", "",
	} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(list)))
		out = append(out, list...)
	}
	return append(out, 0, 0, 0, 0, 0)
}

// packet wraps a payload as RFC 4253 section 6 asks before keys are exchanged.
func packet(payload []byte) []byte {
	padding := 8 - (5+len(payload))%8
	if padding < 4 {
		padding += 8
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	out = append(append(out, byte(padding)), payload...)
	return append(out, make([]byte, padding)...)
}

// clientOffer reads the client's ten lists of algorithms.
func clientOffer(in *bufio.Reader) ([]string, error) {
	var header [5]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:4])
	if length < 2 || length > readMax {
		return nil, fmt.Errorf("no SSH packet")
	}
	body := make([]byte, length-1)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, err
	}
	if padding := int(header[4]); padding >= len(body) || body[0] != kexInit {
		return nil, fmt.Errorf("no offer of algorithms")
	}
	rest := bytes.NewReader(body[1:])
	if _, err := rest.Seek(16, io.SeekCurrent); err != nil {
		return nil, err
	}
	lists := make([]string, 10)
	for i := range lists {
		var size uint32
		if err := binary.Read(rest, binary.BigEndian, &size); err != nil || int64(size) > int64(rest.Len()) {
			return nil, fmt.Errorf("a broken list of algorithms")
		}
		list := make([]byte, size)
		_, _ = io.ReadFull(rest, list)
		lists[i] = string(list)
	}
	return lists, nil
}

// hassh digests key exchange, encryption, MAC and compression as the client offers them.
func hassh(lists []string) string {
	digest := md5.Sum([]byte(strings.Join([]string{lists[0], lists[2], lists[4], lists[6]}, ";")))
	return hex.EncodeToString(digest[:])
}

// web answers every path with a login; who sends one has tried a password.
func web(v *visitor) {
	for count := 0; count < commandsMax; count++ {
		request, err := http.ReadRequest(v.in)
		if err != nil {
			if count == 0 && v.read > 0 {
				v.note("warning", "sent to a web server what is no HTTP")
			}
			return
		}
		body, _ := io.ReadAll(io.LimitReader(request.Body, argumentMax))
		v.judgeRequest(request, string(body))
		page := "<html><title>Sign in</title><form method=post><input name=user><input name=password type=password></form></html>"
		v.say("HTTP/1.1 401 Unauthorized\r\nServer: nginx/1.22.1\r\nWWW-Authenticate: Basic realm=\"admin\"\r\n" +
			"Content-Type: text/html\r\nContent-Length: " + strconv.Itoa(len(page)) + "\r\n\r\n")
		if request.Method != http.MethodHead {
			v.say(page)
		}
		if request.Close {
			return
		}
	}
}

// what takes over a server when it works: traversal, code in a request, known doors.
var attacks = []string{
	"../", "..%2f", "/etc/passwd", "${jndi:", "<?php", "eval(", "cmd.exe", "/bin/sh", "wget ", "curl ", "union select", "' or '1'='1",
	".git/", ".env", "/cgi-bin/", "phpunit", "base64_decode",
}

func (v *visitor) judgeRequest(request *http.Request, body string) {
	v.note("info", "asked a web server for "+sample(request.Method+" "+request.URL.Path))
	v.detail("request", request.Method+" "+request.RequestURI)
	v.detail("user_agent", request.UserAgent())
	v.detail("host", request.Host)
	v.detail("body", body)
	whole := strings.ToLower(request.RequestURI + " " + body)
	for _, values := range request.Header {
		whole += " " + strings.ToLower(strings.Join(values, " "))
	}
	if user, password, there := request.BasicAuth(); there {
		v.detail("user", user)
		v.detail("password", password)
		v.note("warning", "tried a password by HTTP")
	} else if request.Method == http.MethodPost {
		v.note("warning", "sent a form to a web server")
	}
	for _, attack := range attacks {
		if strings.Contains(whole, attack) {
			v.detail("attack", attack)
			v.note("critical", "tried to take over a web server")
			return
		}
	}
}

// What a stranger does with a Redis server to own its machine.
var takeovers = map[string]bool{
	"CONFIG": true, "SLAVEOF": true, "REPLICAOF": true, "MODULE": true, "EVAL": true, "DEBUG": true, "FLUSHALL": true,
	"FLUSHDB": true, "SAVE": true, "BGSAVE": true, "SCRIPT": true, "MIGRATE": true,
}

// redis reads commands and answers as a server that wants a password.
func redis(v *visitor) {
	for count := 0; count < commandsMax; count++ {
		words, err := command(v.in)
		if err != nil {
			if v.read > 0 && count == 0 {
				v.note("warning", "sent to a Redis server what is no command")
			}
			return
		}
		if len(words) == 0 {
			continue
		}
		verb := strings.ToUpper(words[0])
		v.detail("command_"+strconv.Itoa(count+1), strings.Join(words, " "))
		switch {
		case verb == "PING":
			v.note("info", "asked a Redis server whether it is there")
			v.say("+PONG\r\n")
		case verb == "QUIT":
			v.say("+OK\r\n")
			return
		case verb == "AUTH":
			v.note("warning", "tried a password on a Redis server")
			v.detail("password", words[len(words)-1])
			v.say("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
		case takeovers[verb]:
			v.note("critical", "tried to take over a Redis server with "+sample(verb))
			v.say("-NOAUTH Authentication required.\r\n")
		default:
			v.note("info", "sent a Redis server "+sample(verb))
			v.say("-NOAUTH Authentication required.\r\n")
		}
	}
}

// command reads one command, as an array of texts or as a line.
func command(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if !strings.HasPrefix(line, "*") {
		return strings.Fields(line), nil
	}
	count, err := strconv.Atoi(line[1:])
	if err != nil || count < 0 || count > 100 {
		return nil, fmt.Errorf("no command")
	}
	words := make([]string, 0, count)
	for i := 0; i < count; i++ {
		if line, err = in.ReadString('\n'); err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.TrimRight(strings.TrimPrefix(line, "$"), "\r\n"))
		if err != nil || size < 0 || size > argumentMax {
			return nil, fmt.Errorf("no argument")
		}
		word := make([]byte, size+2)
		if _, err = io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words = append(words, string(word[:size]))
	}
	return words, nil
}
