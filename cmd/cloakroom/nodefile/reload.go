package nodefile

// Compare returns what is different in next: keys that a running node takes
// over, and keys that take a restart. Certificates count as changed always,
// since what matters is the content of their files.
func (f *File) Compare(next *File) (taken, restart []string) {
	before, after := settings(f), settings(next)
	texts := map[string]string{}
	for _, s := range before {
		texts[s.key] = s.value.text()
	}
	for _, s := range after {
		switch {
		case texts[s.key] == s.value.text():
		case s.reload:
			taken = append(taken, s.key)
		default:
			restart = append(restart, s.key)
		}
	}
	return taken, restart
}
