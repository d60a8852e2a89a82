package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// portrait draws somebody as SVG. The same photo gives the same picture.
func portrait(p Photo) []byte {
	random := rand.New(rand.NewPCG(p.Seed, 9111))
	pick := func(from []string) string { return from[random.IntN(len(from))] }

	wall := pick([]string{"#f3c9a5", "#bcd8c9", "#f2dc9b", "#c8cfe8", "#e7bfb9", "#b9d7e3"})
	cloth := pick([]string{"#2f5d62", "#a4452c", "#3c4a7a", "#6b4a6e", "#c98a1b", "#47683b"})
	skin := pick([]string{"#f4d3bd", "#e3b48f", "#c68a5e", "#9a6240", "#6f4530"})
	hair := pick([]string{"#2b211c", "#57371f", "#8d5a2b", "#c9a15a", "#b7b2ab", "#8c3b22"})
	style := random.IntN(5)

	var svg bytes.Buffer
	draw := func(format string, args ...any) { fmt.Fprintf(&svg, format+"\n", args...) }
	draw(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200" width="200" height="200">`)
	draw(`<rect width="200" height="200" fill="%s"/>`, wall)
	draw(`<circle cx="%d" cy="%d" r="%d" fill="#fff" opacity=".28"/>`, 30+random.IntN(140), 20+random.IntN(60), 40+random.IntN(40))
	draw(`<circle cx="%d" cy="%d" r="%d" fill="#fff" opacity=".18"/>`, random.IntN(200), 110+random.IntN(70), 20+random.IntN(30))

	switch style { // what is behind the head
	case 1: // long
		draw(`<path d="M54 92c0-38 20-58 46-58s46 20 46 58v58c0 8-92 8-92 0z" fill="%s"/>`, hair)
	case 2: // a bun
		draw(`<circle cx="100" cy="34" r="19" fill="%s"/>`, hair)
	case 3: // curls
		for _, at := range [][2]int{{62, 84}, {58, 66}, {70, 50}, {86, 40}, {104, 38}, {122, 43}, {135, 56}, {142, 72}, {139, 88}} {
			draw(`<circle cx="%d" cy="%d" r="17" fill="%s"/>`, at[0], at[1], hair)
		}
	}

	draw(`<path d="M22 200c2-38 34-52 78-52s76 14 78 52z" fill="%s"/>`, cloth)
	draw(`<path d="M84 120h32v30c0 14-32 14-32 0z" fill="%s"/>`, skin)
	draw(`<path d="M84 132c8 10 24 10 32 0v8c-8 10-24 10-32 0z" opacity=".16"/>`)
	draw(`<circle cx="62" cy="96" r="8" fill="%[1]s"/><circle cx="138" cy="96" r="8" fill="%[1]s"/>`, skin)
	draw(`<path d="M62 84c0-28 16-42 38-42s38 14 38 42c0 32-16 54-38 54S62 116 62 84z" fill="%s"/>`, skin)

	switch style { // what is in front of it
	case 0: // short
		draw(`<path d="M60 88c-6-36 12-54 40-54s46 18 40 54c-3-14-8-22-14-26-18 4-38 2-50-4-8 6-13 16-16 30z" fill="%s"/>`, hair)
	case 1:
		draw(`<path d="M60 92c0-32 14-50 40-50 28 0 42 20 40 50-4-16-12-28-30-36-12 14-32 20-50 36z" fill="%s"/>`, hair)
	case 2:
		draw(`<path d="M60 86c0-30 16-46 40-46s40 16 40 46c-6-16-18-24-40-24S66 70 60 86z" fill="%s"/>`, hair)
	case 3:
		draw(`<path d="M61 82c0-34 18-46 39-46s39 12 39 46c-8-13-22-18-39-18s-31 5-39 18z" fill="%s"/>`, hair)
	case 4: // a cap
		draw(`<path d="M58 76c0-28 18-42 42-42s42 14 42 42c-28-8-56-8-84 0z" fill="%[1]s"/><path d="M56 76c30-9 64-9 100 2 4 2 2 7-2 7-32-4-66-4-96 0-5 0-6-7-2-9z" fill="%[1]s"/><path d="M58 76c28-8 56-8 84 0" fill="none" stroke="#000" stroke-opacity=".25" stroke-width="3"/>`, cloth)
	}

	draw(`<path d="M74 88q8-5 16 0M110 88q8-5 16 0" fill="none" stroke="%s" stroke-width="3" stroke-linecap="round"/>`, hair)
	draw(`<circle cx="82" cy="97" r="3.6" fill="#231c18"/><circle cx="118" cy="97" r="3.6" fill="#231c18"/>`)
	draw(`<path d="M100 98q-5 10 1 12" fill="none" stroke="#000" stroke-opacity=".28" stroke-width="2.5" stroke-linecap="round"/>`)
	draw(`<circle cx="75" cy="110" r="7" fill="#d4553d" opacity=".18"/><circle cx="125" cy="110" r="7" fill="#d4553d" opacity=".18"/>`)
	draw(`<path d="M86 119q14 %d 28 0" fill="none" stroke="#7c2d21" stroke-width="3" stroke-linecap="round"/>`, 7+random.IntN(9))
	switch random.IntN(4) {
	case 0: // glasses
		draw(`<g fill="#fff" fill-opacity=".22" stroke="#2b2622" stroke-width="2.6"><circle cx="82" cy="97" r="12.5"/><circle cx="118" cy="97" r="12.5"/></g><path d="M94.5 97q5.5-4 11 0M69.5 95l-7-2M130.5 95l7-2" fill="none" stroke="#2b2622" stroke-width="2.6"/>`)
	case 1: // a scarf
		draw(`<path d="M70 146c18 12 42 12 60 0l5 14c-22 14-48 14-70 0z" fill="#fff" opacity=".82"/>`)
	}
	draw(`</svg>`)
	return svg.Bytes()
}
