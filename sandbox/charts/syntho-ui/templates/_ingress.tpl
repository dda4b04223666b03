{{/* One Ingress for both: the hosts' own paths go to the frontend, /api/* of each host to the backend. */}}
{{- define "ui.ingress" -}}
{{- $ingress := .Values.frontend.ingress -}}
{{- $kube := .Capabilities.KubeVersion.Version -}}
{{- $v1 := semverCompare ">=1.19-0" $kube -}}
{{- $fields := semverCompare ">=1.18-0" $kube -}}
{{- $api := ternary "networking.k8s.io" "extensions" (semverCompare ">=1.14-0" $kube) -}}
{{- $annotations := $ingress.annotations -}}
{{- if and $ingress.className (not $fields) -}}
{{- $annotations = merge (dict) $annotations (dict "kubernetes.io/ingress.class" $ingress.className) -}}
{{- end }}
apiVersion: {{ $api }}/{{ ternary "v1" "v1beta1" $v1 }}
kind: Ingress
metadata:
  name: {{ $ingress.name }}
  labels: {{- include "ui.labels" . | nindent 4 }}
  {{- with $annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if and $fields $ingress.className }}
  ingressClassName: {{ $ingress.className }}
  {{- end }}
  {{- if $ingress.tls.enabled }}
  tls:
    {{- range $ingress.tls.conf }}
    - secretName: {{ .secretName }}
      hosts:
        {{- range .hosts }}
        - {{ quote . }}
        {{- end }}
    {{- end }}
  {{- end }}
  rules:
    {{- range $ingress.hosts }}
    - host: {{ quote .host }}
      http:
        paths:
          {{- range .paths }}
          - path: {{ .path }}
            {{- if and $fields .pathType }}
            pathType: {{ .pathType }}
            {{- end }}
            backend:
              {{- with $.Values.frontend }}
              {{- if $v1 }}
              service: {name: {{ .name }}, port: {number: {{ .service.port }}}}
              {{- else }}
              serviceName: {{ .name }}
              servicePort: {{ .service.port }}
              {{- end }}
              {{- end }}
          {{- end }}
          # The Service has this number as its targetPort; its port is 80.
          - path: /api/*
            pathType: ImplementationSpecific
            backend:
              {{- with $.Values.backend }}
              service: {name: {{ .name }}, port: {number: {{ .service.port }}}}
              {{- end }}
    {{- end }}
{{- end -}}
