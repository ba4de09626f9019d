package folder

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"cloakroom/cluster/disk"
)

func testNode() Node {
	return Node{Format: Format, Cluster: Cluster{0: 0x5e, 15: 1}, Name: "n1", Boot: 7, DirectoryBoot: 6, SealEpoch: 2,
		Peers: []string{"n2.example.org:8202", "192.0.2.7:8202"}, CA: []byte("not a certificate")}
}

func create(t *testing.T, dir string, node Node) *Folder {
	t.Helper()
	f, err := Create(disk.OS(), dir, node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCreateThenOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "folder")
	f := create(t, dir, testNode())
	if err := f.Update(func(n *Node) { n.Boot++ }); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(disk.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	got, want := again.Node(), testNode()
	want.Boot++
	if g, w := encoded(t, &got), encoded(t, &want); !bytes.Equal(g, w) {
		t.Errorf("read %s, want %s", g, w)
	}
}

func encoded(t *testing.T, n *Node) []byte {
	t.Helper()
	data, err := n.encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	f := create(t, dir, testNode())
	for _, save := range []func([]byte) error{f.SaveKey, f.SaveCertificate, f.SaveKeyring, f.SaveFounding} {
		if err := save([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		want := fs.FileMode(0o600)
		files++
		if entry.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil || files != 7 { // the folder, and six
		t.Errorf("%d files, %v", files, err)
	}
}

func TestOpenWithoutNode(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(disk.OS(), dir); !errors.Is(err, ErrNone) {
		t.Errorf("an empty folder: %v, want ErrNone", err)
	}
	if _, err := Open(disk.OS(), filepath.Join(dir, "none")); !errors.Is(err, ErrNone) {
		t.Errorf("no folder: %v, want ErrNone", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a refused Open left %v, %v", left, err)
	}
}

func TestCreateRefusesASecondNode(t *testing.T) {
	dir := t.TempDir()
	create(t, dir, testNode()).Close()
	other := testNode()
	other.Name = "n2"
	if _, err := Create(disk.OS(), dir, other); !errors.Is(err, ErrExists) {
		t.Errorf("Create = %v, want ErrExists", err)
	}
	f, err := Open(disk.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Node().Name; got != "n1" {
		t.Errorf("the folder is of %s now", got)
	}
}

// Two processes on one folder would be one node twice.
func TestSecondIsTurnedAway(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir, testNode())
	if _, err := Open(disk.OS(), dir); !errors.Is(err, ErrTaken) {
		t.Errorf("Open = %v, want ErrTaken", err)
	}
	if _, err := Create(disk.OS(), dir, testNode()); !errors.Is(err, ErrTaken) {
		t.Errorf("Create = %v, want ErrTaken", err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := Open(disk.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// holder tells the test binary, run again, to hold a folder and wait.
const holder = "CLOAKROOM_FOLDER_HOLDER"

func TestLockEndsWithTheProcess(t *testing.T) {
	if dir := os.Getenv(holder); dir != "" {
		if _, err := Open(disk.OS(), dir); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("held\n")
		select {} // until it is killed
	}
	dir := t.TempDir()
	create(t, dir, testNode()).Close()
	child := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithTheProcess$")
	child.Env = append(os.Environ(), holder+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4)
	if _, err := out.Read(said); err != nil {
		t.Fatal(err)
	}
	_, err = Open(disk.OS(), dir)
	if killed := child.Process.Kill(); killed != nil {
		t.Fatal(killed)
	}
	child.Wait()
	if !errors.Is(err, ErrTaken) {
		t.Errorf("while another process has it: %v, want ErrTaken", err)
	}
	f, err := Open(disk.OS(), dir)
	if err != nil {
		t.Fatalf("after kill -9: %v", err)
	}
	f.Close()
}

func TestFiles(t *testing.T) {
	f := create(t, t.TempDir(), testNode())
	for name, file := range map[string]struct {
		read func() ([]byte, error)
		save func([]byte) error
	}{
		keyFile: {f.Key, f.SaveKey}, certificateFile: {f.Certificate, f.SaveCertificate},
		keyringFile: {f.Keyring, f.SaveKeyring}, foundingFile: {f.Founding, f.SaveFounding},
	} {
		if _, err := file.read(); !errors.Is(err, ErrMissing) {
			t.Errorf("%s before it is there: %v, want ErrMissing", name, err)
		}
		if err := file.save([]byte(name)); err != nil {
			t.Error(err)
		}
		if got, err := file.read(); err != nil || string(got) != name {
			t.Errorf("%s = %q, %v", name, got, err)
		}
	}
	if err := f.SaveKey([]byte("another")); !errors.Is(err, ErrExists) {
		t.Errorf("a second key: %v, want ErrExists", err)
	}
	if got, _ := f.Key(); string(got) != keyFile {
		t.Error("the key was replaced")
	}
	for range 2 {
		if err := f.DropFounding(); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.Founding(); !errors.Is(err, ErrMissing) {
		t.Errorf("founding.json after DropFounding: %v", err)
	}
}

func TestRefusesWhatItCantRead(t *testing.T) {
	good := testNode()
	for what, text := range map[string]string{
		"nothing":        "",
		"half":           string(encoded(t, &good)[:40]),
		"two":            string(encoded(t, &good)) + "{}",
		"a newer format": `{"format":2,"name":"n1"}`,
		"more members":   `{"format":1,"name":"n1","wings":2}`,
		"no name":        `{"format":1}`,
		"a short id":     `{"format":1,"name":"n1","cluster":"5e"}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, nodeFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(disk.OS(), dir); err == nil {
			t.Errorf("%s was taken for a node: %+v", what, f.Node())
			f.Close()
		} else if errors.Is(err, ErrNone) || errors.Is(err, ErrTaken) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestUpdateRefusesFaults(t *testing.T) {
	f := create(t, t.TempDir(), testNode())
	if err := f.Update(func(n *Node) { n.Name = "" }); err == nil {
		t.Error("a node without a name was taken")
	}
	if got := f.Node().Name; got != "n1" {
		t.Errorf("a refused change changed the name to %q", got)
	}
}
