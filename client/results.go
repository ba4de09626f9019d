package client

import "cloakroom"

const (
	resultsOpen   = `{"results":[`
	resultID      = `{"id":"`
	resultVersion = `","version":"`
	resultClose   = `"}`
	versionLen    = 16
	resultLen     = len(resultID) + cloakroom.PseudonymTextLen + len(resultVersion) + versionLen + len(resultClose)
)

// plainResults reads the answer to a batch in which every item succeeded and
// which is written without white space: then all results have one length and
// nothing has to be tokenised, which for a bulk load is a fifth of the
// client's work. It checks everything before it hands anything over, and says
// false for any other answer, which is no error.
func plainResults(body []byte, each func(i int, d Deposited)) (n int, ok bool) {
	if !hasPrefix(body, resultsOpen) {
		return 0, false
	}
	body = body[len(resultsOpen):]
	for at := 0; ; at += resultLen + 1 {
		if len(body) < at+resultLen+1 || !plainResult(body[at:at+resultLen]) {
			return 0, false
		}
		n++
		if c := body[at+resultLen]; c == ']' {
			break
		} else if c != ',' {
			return 0, false
		}
	}
	rest := body[n*(resultLen+1):]
	if string(rest) != "}" && string(rest) != "}\n" {
		return 0, false
	}
	for i := range n {
		r := body[i*(resultLen+1):]
		id, _ := cloakroom.ParsePseudonym(r[len(resultID) : len(resultID)+cloakroom.PseudonymTextLen])
		v := r[resultLen-len(resultClose)-versionLen:]
		each(i, Deposited{ID: id, Version: string(v[:versionLen])})
	}
	return n, true
}

// plainResult reports whether r, of resultLen bytes, is {"id":…,"version":…}
// with a good pseudonym and a version of hex digits.
func plainResult(r []byte) bool {
	at := len(resultID)
	if !hasPrefix(r, resultID) {
		return false
	}
	if _, err := cloakroom.ParsePseudonym(r[at : at+cloakroom.PseudonymTextLen]); err != nil {
		return false
	}
	at += cloakroom.PseudonymTextLen
	if !hasPrefix(r[at:], resultVersion) {
		return false
	}
	at += len(resultVersion)
	_, err := cloakroom.ParseVersion(r[at : at+versionLen])
	return err == nil && string(r[at+versionLen:]) == resultClose
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}
