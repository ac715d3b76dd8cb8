package honeypot_deployment_agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sutazai/agent"
)

// visit runs a deployment and lets a visitor speak with it as soon as it stands.
func visit(t *testing.T, trial *agent.Trial, kind string, speak func(conn net.Conn)) Report {
	t.Helper()
	listener, port, err := listen(0, 20600, 20999)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	done := make(chan agent.TrialResult, 1)
	input := fmt.Sprintf(`{"kind": %q, "port": %d, "listen_s": 20, "contacts": 1}`, kind, port)
	go func() {
		done <- trial.Run(context.Background(), agent.TrialTask{Skill: "deploy", Input: json.RawMessage(input), Session: "decoy"})
	}()
	var conn net.Conn
	for until := time.Now().Add(10 * time.Second); ; {
		if conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal(err, (<-done).Error)
		}
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	speak(conn)
	conn.Close()
	ended := <-done
	var report Report
	if ended.Status != "succeeded" {
		t.Fatalf("%+v", ended.Error)
	}
	if err = json.Unmarshal(ended.Result, &report); err != nil {
		t.Fatal(err)
	}
	return report
}

func newTrial() *agent.Trial {
	firstPort, lastPort := 20600, 20999
	return agent.NewTrialWith(Agent, json.RawMessage(fmt.Sprintf(`{"first_port": %d, "last_port": %d}`, firstPort, lastPort)))
}

func TestAPasswordOnRedisIsAnAlertThatIsStored(t *testing.T) {
	trial := newTrial()
	report := visit(t, trial, "redis", func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for send, want := range map[string]string{
			"PING\r\n":                             "+PONG\r\n",
			"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n": "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
			"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$3\r\ndir\r\n$4\r\n/etc\r\n": "-NOAUTH Authentication required.\r\n",
		} {
			fmt.Fprint(conn, send)
			if got, err := in.ReadString('\n'); got != want {
				t.Errorf("%q: %q %v", send, got, err)
			}
		}
	})
	if report.Ended != "contacts" || report.Count != 1 || report.Alerts != 1 {
		t.Fatalf("%+v", report)
	}
	contact := report.Contacts[0]
	if contact.Severity != "critical" || !strings.Contains(contact.What, "CONFIG") || contact.Details["password"] != "secret" {
		t.Errorf("%+v", contact)
	}
	ended := trial.Run(context.Background(), agent.TrialTask{Skill: "events", Input: json.RawMessage(`{"severity": "warning"}`)})
	var found Events
	if json.Unmarshal(ended.Result, &found) != nil || found.Total != 1 || found.Alerts[0].Source != "127.0.0.1" || found.Alerts[0].Severity != "critical" {
		t.Errorf("%s %+v", ended.Result, ended.Error)
	}
	trial.Run(context.Background(), agent.TrialTask{Skill: "forget", Input: json.RawMessage(`{}`)})
	ended = trial.Run(context.Background(), agent.TrialTask{Skill: "events", Input: json.RawMessage(`{}`)})
	if json.Unmarshal(ended.Result, &found) != nil || found.Total != 0 {
		t.Errorf("%s", ended.Result)
	}
}

func TestALoginByHTTPAndAnAttackAreToldApart(t *testing.T) {
	for _, c := range []struct{ path, user, severity string }{
		{"/", "", "info"}, {"/login", "root", "warning"}, {"/cgi-bin/x?f=../../etc/passwd", "", "critical"},
	} {
		report := visit(t, newTrial(), "http", func(conn net.Conn) {
			request, err := http.NewRequest(http.MethodGet, "http://decoy"+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.user != "" {
				request.SetBasicAuth(c.user, "hunter2")
			}
			if err = request.Write(conn); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(conn), request)
			if err != nil || response.StatusCode != http.StatusUnauthorized {
				t.Fatalf("%v %v", response, err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
		})
		contact := report.Contacts[0]
		if contact.Severity != c.severity || c.user != "" && contact.Details["password"] != "hunter2" {
			t.Errorf("%s: %+v", c.path, contact)
		}
	}
}

func TestAnSSHClientIsKnownByItsAlgorithms(t *testing.T) {
	report := visit(t, newTrial(), "ssh", func(conn net.Conn) {
		in := bufio.NewReader(conn)
		if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "SSH-2.0-") {
			t.Fatal(line, err)
		}
		fmt.Fprint(conn, "SSH-2.0-Go\r\n")
		lists, err := clientOffer(in) // the decoy's own offer can be read as a client's
		if err != nil || lists[0] != "curve25519-sha256,ecdh-sha2-nistp256" {
			t.Fatal(lists, err)
		}
		if _, err = conn.Write(packet(offer())); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	details := report.Contacts[0].Details
	if details["client"] != "SSH-2.0-Go" || details["hassh"] != "a7798297f5f9542056a6ca5d50554df7" {
		t.Errorf("%v", details)
	}
}

func TestGarbageIsReadAndRefusedByEveryDecoy(t *testing.T) {
	for kind := range decoys {
		report := visit(t, newTrial(), kind, func(conn net.Conn) {
			_, _ = conn.Write([]byte("*9999999999\r\n\x00\xff\xfe\r\n\r\n"))
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
		})
		if contact := report.Contacts[0]; contact.Severity != "warning" || contact.Bytes == 0 {
			t.Errorf("%s: %+v", kind, contact)
		}
	}
}

func TestAPortThatIsNotReservedOrTakenIsRefused(t *testing.T) {
	listener, port, err := listen(0, 20600, 20999)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for input, code := range map[string]string{
		`{"kind": "ssh", "port": 22}`: "invalid-input", `{"kind": "ftp"}`: "invalid-input",
		fmt.Sprintf(`{"kind": "ssh", "port": %d}`, port): "unavailable",
	} {
		ended := newTrial().Run(context.Background(), agent.TrialTask{Skill: "deploy", Input: json.RawMessage(input)})
		if ended.Error == nil || ended.Error.Code != code {
			t.Errorf("%s: %+v", input, ended)
		}
	}
}

func TestADecoyEndsWithItsTimeItsIdlenessAndItsDeadline(t *testing.T) {
	for ended, task := range map[string]agent.TrialTask{
		"time":     {Skill: "deploy", Input: json.RawMessage(`{"kind": "http", "listen_s": 1}`)},
		"idle":     {Skill: "deploy", Input: json.RawMessage(`{"kind": "http", "idle_s": 1}`)},
		"deadline": {Skill: "deploy", Input: json.RawMessage(`{"kind": "http"}`), DeadlineMS: 2500},
	} {
		result := newTrial().Run(context.Background(), task)
		var report Report
		if json.Unmarshal(result.Result, &report) != nil || report.Ended != ended || report.Count != 0 {
			t.Errorf("%s: %s %+v", ended, result.Result, result.Error)
		}
	}
}

func TestWhatIsStoredIsBounded(t *testing.T) {
	trial := newTrial()
	contacts := make([]Contact, 400)
	for i := range contacts {
		contacts[i] = Contact{AtMS: int64(i), Details: map[string]string{"body": strings.Repeat("é", sampleMax)}}
	}
	input, _ := json.Marshal(batch{Contacts: contacts})
	for i := 0; i < 5; i++ {
		if ended := trial.Run(context.Background(), agent.TrialTask{Skill: "record", Input: input, Session: alertsSession}); ended.Error != nil {
			t.Fatal(ended.Error)
		}
	}
	ended := trial.Run(context.Background(), agent.TrialTask{Skill: "read", Input: json.RawMessage(`{}`), Session: alertsSession})
	var found stored
	if json.Unmarshal(ended.Result, &found) != nil || len(found.Contacts) > storedMax || found.Dropped+len(found.Contacts) != 2000 {
		t.Errorf("%d kept, %d dropped", len(found.Contacts), found.Dropped)
	}
}

// FuzzDecoys sends hostile bytes to every decoy: none may break down or answer more than it should.
func FuzzDecoys(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x04\x14"))
	f.Add([]byte("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("*1\r\n$-1\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, decoy := range decoys {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			go func() { _, _ = there.Write(data); _ = there.Close() }()
			decoy(newVisitor(here))
			here.Close()
			there.Close()
		}
	})
}
